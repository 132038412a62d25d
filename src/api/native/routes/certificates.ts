import { z } from "@hono/zod-openapi";
import { emptyRoute, jsonRoute, mapped, pageOf, type Route } from "../routing.ts";
import {
  certificatePageSchema,
  certificateRequestSchema,
  certificateSetSchema,
  pageQuery,
  parameters,
} from "../schemas.ts";
import type { Services } from "../services.ts";
import { noBody, nothing } from "./common.ts";

const named = z.strictObject({ name: parameters.certificate });

/** Certificates that gateways choose from by the name a client asks for. */
export function certificateRoutes({ operations, settings }: Services): readonly Route[] {
  return [
    jsonRoute(
      {
        id: "listCertificates",
        method: "get",
        path: "/v1/certificates",
        summary: "The certificates, by name; private keys are never given",
        params: nothing,
        query: pageQuery,
        body: noBody,
        bodyBytesMax: null,
      },
      { status: 200, schema: certificatePageSchema },
      async (call) =>
        mapped(await operations.listCertificates(), (certificates) =>
          pageOf(certificates, (certificate) => certificate.name, call.query),
        ),
    ),
    jsonRoute(
      {
        id: "setCertificate",
        method: "put",
        path: "/v1/certificates/{name}",
        summary: "Sets a certificate; the next TLS handshake uses it",
        params: named,
        query: nothing,
        body: certificateRequestSchema,
        bodyBytesMax: settings.limits.bodyBytesMax,
      },
      { status: 200, schema: certificateSetSchema },
      (call) => operations.setCertificate(call.params.name, call.body, call.actor),
    ),
    emptyRoute(
      {
        id: "removeCertificate",
        method: "delete",
        path: "/v1/certificates/{name}",
        summary: "Forgets a certificate",
        params: named,
        query: nothing,
        body: noBody,
        bodyBytesMax: null,
      },
      (call) => operations.removeCertificate(call.params.name, call.actor),
    ),
  ];
}
