/**
 * Acting on what changes: informers, work queues and controllers.
 *
 * @since 0.1.0
 */
export * as Informer from "./Informer.js"
export * as WorkQueue from "./WorkQueue.js"
