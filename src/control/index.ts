/**
 * Acting on what changes: informers, work queues and controllers.
 *
 * @since 0.1.0
 */
export * as Controller from "./Controller.js"
export * as Informer from "./Informer.js"
export * as Lagged from "./Lagged.js"
export * as WorkQueue from "./WorkQueue.js"
