/**
 * Watching over HTTP.
 *
 * @since 0.1.0
 */
export * as HttpSource from "./HttpSource.js"
