/**
 * Environment for JavaScriptCore: a function's code is optimized after ten times as many runs as of
 * itself. Optimizing takes a thread of its own for milliseconds, on a core that a request may be
 * waiting for; who is asked often has that behind him within seconds all the same
 * (docs/decisions/0026). `./lode` sets the same.
 */
export const optimizingLate: Readonly<Record<string, string>> = {
  BUN_JSC_thresholdForOptimizeAfterWarmUp: "10000",
  BUN_JSC_thresholdForOptimizeAfterLongWarmUp: "10000",
  BUN_JSC_thresholdForOptimizeSoon: "10000",
};
