/**
 * Watching change logs in databases.
 *
 * @since 0.1.0
 */
export * as ChangeLog from "./ChangeLog.js"
export * as ChangeLogSource from "./ChangeLogSource.js"
export * as FileHints from "./FileHints.js"
