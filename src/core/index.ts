/**
 * Watching what changes outside of a process: sources, watchers, and where they keep their state.
 *
 * @since 0.1.0
 */
export * as Backoff from "./Backoff.js"
export * as Change from "./Change.js"
export * as Checkpoints from "./Checkpoints.js"
export * as Source from "./Source.js"
export * as Watcher from "./Watcher.js"
export * as WatchMetrics from "./WatchMetrics.js"
export * as WatchStatus from "./WatchStatus.js"
