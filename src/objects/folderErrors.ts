/**
 * What the codes of the file system mean for a store.
 */
import type { DiskError } from "./disk.js"
import type { ObjectStoreError, Reason } from "./ObjectStore.js"
import type { Operation } from "./storeFailure.js"
import { failure } from "./storeFailure.js"

const explain = (code: string): readonly [reason: Reason, detail: string] => {
  switch (code) {
    case "ENOENT":
      return ["NotFound", "found nothing there"]
    case "EACCES":
    case "EPERM":
      return ["Unauthorized", "is not allowed; check the owner and the permissions"]
    case "EROFS":
      return ["Unauthorized", "is not allowed: the file system is mounted read-only"]
    case "EILSEQ":
      return ["InvalidRequest", "found a name that is not UTF-8, which no key can hold; rename it"]
    case "ENOTDIR":
      return ["InvalidRequest", "found a file where the key needs a folder"]
    case "EISDIR":
    case "EEXIST":
    case "ENOTEMPTY":
      return ["InvalidRequest", "found a folder where the key needs a file"]
    case "ENAMETOOLONG":
      return ["InvalidRequest", "was given a key that is too long for the file system"]
    case "EINVAL":
    case "ELOOP":
      return ["InvalidRequest", "was given a key that the file system cannot hold"]
    default:
      return ["Io", "failed"]
  }
}

/** The error for a failed call; `place` is the folder or file within the root. */
export const toStoreError =
  (store: string, operation: Operation, root: string, key?: string) =>
  ({ code, path }: DiskError): ObjectStoreError => {
    const [reason, detail] = explain(code)
    const place =
      path === root ? "." : path.startsWith(`${root}/`) ? path.slice(root.length + 1).replace(/\/$/, "") : undefined
    const where = place === undefined ? "" : `, at ${JSON.stringify(place)}`
    return failure(store, operation, reason, `${detail} (${code}${where}).`, key)
  }
