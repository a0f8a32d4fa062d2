/**
 * Watching object stores.
 *
 * @since 0.1.0
 */
export * as ObjectStore from "./ObjectStore.js"
