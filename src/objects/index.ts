/**
 * Watching object stores.
 *
 * @since 0.1.0
 */
export * as AccessToken from "./AccessToken.js"
export * as Azure from "./Azure.js"
export * as Folder from "./Folder.js"
export * as Gcs from "./Gcs.js"
export * as Memory from "./Memory.js"
export * as ObjectSource from "./ObjectSource.js"
export * as ObjectStore from "./ObjectStore.js"
export * as S3 from "./S3.js"
export * as WebDav from "./WebDav.js"
