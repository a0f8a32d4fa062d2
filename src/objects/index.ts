/**
 * Watching object stores.
 *
 * @since 0.1.0
 */
export * as Memory from "./Memory.js"
export * as ObjectStore from "./ObjectStore.js"
