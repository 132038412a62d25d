import type { Json } from "../../base/json.ts";
import { type Key, type KeyTable, lodeTomlKeys, type Shape } from "./keys.ts";

/** JSON Schema of lode.toml, for editors. */
export const lodeTomlSchema: Json = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  title: "lode.toml",
  description: "How Lode runs this folder. Every key is optional.",
  ...tableSchema(lodeTomlKeys),
};

function tableSchema(keys: KeyTable): { readonly [key: string]: Json } {
  return {
    type: "object",
    additionalProperties: false,
    properties: Object.fromEntries(
      Object.entries(keys).map(([name, key]) => [name, keySchema(key)]),
    ),
  };
}

function keySchema(key: Key): Json {
  const about = { description: `${key.description} Example: ${key.example}` };
  return { ...about, ...shapesSchema(key.shapes) };
}

function shapesSchema(shapes: readonly Shape[]): { readonly [key: string]: Json } {
  const schemas = shapes.map(shapeSchema);
  const [only] = schemas;
  return schemas.length === 1 && only !== undefined ? only : { anyOf: schemas };
}

function shapeSchema(shape: Shape): { readonly [key: string]: Json } {
  switch (shape.type) {
    case "list":
      return { type: "array", items: { type: "string" } };
    case "map":
      return { type: "object", additionalProperties: shapesSchema(shape.values) };
    case "table":
      return tableSchema(shape.keys);
    default:
      return { type: shape.type };
  }
}
