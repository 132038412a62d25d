import { z } from "@hono/zod-openapi";
import { err, ok } from "../../../base/result.ts";
import type { Digest } from "../../../model/names.ts";
import { type Problem, problemOf } from "../problems.ts";
import { jsonResponse, jsonRoute, mapped, type Route, rawRoute } from "../routing.ts";
import {
  blobStoredSchema,
  missingBlobsRequestSchema,
  missingBlobsSchema,
  parameters,
} from "../schemas.ts";
import type { Services } from "../services.ts";
import { noBody, nothing } from "./common.ts";

/** Blobs: the bytes of releases, named by their SHA-256. */
export function blobRoutes(services: Services): readonly Route[] {
  const { operations, settings } = services;
  return [
    jsonRoute(
      {
        id: "findMissingBlobs",
        method: "post",
        path: "/v1/blobs/missing",
        summary: "Of these digests, those that must be uploaded",
        params: nothing,
        query: nothing,
        body: missingBlobsRequestSchema,
        bodyBytesMax: settings.limits.bodyBytesMax,
      },
      { status: 200, schema: missingBlobsSchema },
      async (call) =>
        mapped(
          await operations.missingBlobs(call.body.digests as readonly Digest[]),
          (missing) => ({
            missing,
          }),
        ),
    ),
    uploadRoute(services),
  ];
}

function uploadRoute(services: Services): Route {
  const { bytesMax, stallMs } = {
    bytesMax: services.settings.limits.blobBytesMax,
    stallMs: services.settings.limits.uploadStallMs,
  };
  return rawRoute(
    {
      id: "putBlob",
      method: "put",
      path: "/v1/blobs/{digest}",
      summary: "Uploads the bytes that have this SHA-256",
      params: z.strictObject({ digest: parameters.digest }),
      query: nothing,
      body: noBody,
      bodyBytesMax: null,
    },
    {
      rawBody: {
        mediaType: "application/octet-stream",
        schema: z.string().openapi({ format: "binary" }),
      },
      success: {
        status: 201,
        description: "Stored, now or before",
        mediaType: "application/json",
        schema: blobStoredSchema,
      },
    },
    async (call) => {
      const mediaType = call.request.headers.get("content-type")?.split(";")[0]?.trim();
      if (mediaType !== "application/octet-stream") {
        return err({
          code: "unsupportedMediaType",
          detail: "A blob is uploaded with Content-Type application/octet-stream",
        });
      }
      call.server?.timeout(call.request, 0);
      const guarded = guardUpload(services, call.request, bytesMax, stallMs);
      if ("problem" in guarded) return err(guarded.problem);
      const stored = await services.operations.putBlob(
        call.params.digest as Digest,
        guarded.content,
      );
      const refusal = guarded.refusal();
      if (refusal !== null) return err(refusal);
      if (!stored.ok) return err(problemOf(stored.error));
      return ok(jsonResponse(201, { size: stored.value.size }));
    },
  );
}

/** Lets at most `bytesMax` bytes through, and ends an upload that stopped coming. */
function guardUpload(services: Services, request: Request, bytesMax: number, stallMs: number) {
  const tooLarge: Problem = {
    code: "tooLarge",
    detail: `A blob has at most ${bytesMax} bytes`,
    remedy: "Leave the file out with .lodeignore, or let the app fetch it when it starts",
  };
  if (Number(request.headers.get("content-length") ?? 0) > bytesMax) return { problem: tooLarge };
  const reader = (request.body ?? new Blob([]).stream()).getReader();
  let refusal: Problem | null = null;
  let bytes = 0;
  const content = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const stall = services.clock.after(stallMs, () => {
          refusal = {
            code: "uploadStalled",
            detail: `Nothing of the blob came for ${stallMs / 1000} s`,
          };
          controller.error(new Error("the upload stalled"));
        });
        try {
          const { done, value } = await reader.read();
          if (refusal !== null) return;
          if (done) return controller.close();
          bytes += value.byteLength;
          if (bytes > bytesMax) {
            refusal = tooLarge;
            controller.error(new Error("the blob is too large"));
            return;
          }
          controller.enqueue(value);
        } finally {
          stall.cancel();
        }
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
  return { content, refusal: () => refusal };
}
