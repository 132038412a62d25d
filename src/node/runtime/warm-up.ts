// Does nothing: fetch-shim.ts loads it while nobody waits, so that what Bun needs for loading a
// module is there when the app's are loaded.
export {};
