/**
 * Acting on what changes: work queues and controllers.
 *
 * @since 0.1.0
 */
export * as WorkQueue from "./WorkQueue.js"
