// `release:` runs once before a new release takes over, and must succeed.
import { mkdirSync } from "node:fs";
import { done, waiting } from "./folders.mjs";

mkdirSync(waiting, { recursive: true });
mkdirSync(done, { recursive: true });
console.log("the folders are there");
