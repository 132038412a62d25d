/**
 * Environment for JavaScriptCore: a function's code is optimized when it has run some thousands
 * of times, not a hundred. Optimizing takes a thread of its own for milliseconds, on a core that a
 * request may be waiting for; who is asked often has that behind him in a second all the same
 * (docs/decisions/0026). `./lode` sets the same.
 */
export const optimizingLate: Readonly<Record<string, string>> = {
  BUN_JSC_thresholdForOptimizeAfterWarmUp: "50000",
  BUN_JSC_thresholdForOptimizeAfterLongWarmUp: "50000",
  BUN_JSC_thresholdForOptimizeSoon: "50000",
};
