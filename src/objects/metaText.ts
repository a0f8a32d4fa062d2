/**
 * What a snapshot keeps of an object: its version, by which it is compared, and the rest of its metadata as a short text.
 */
import type { ItemText } from "../core/Source.js"
import type { ObjectMeta } from "./ObjectStore.js"

/**
 * The version of an object: its ETag, else its version or generation, else its size and time. The first letter says which, so that
 * none is ever taken for another.
 */
export const versionOf = ({ etag, lastModifiedMillis, size, version }: ObjectMeta): string => {
  if (etag !== undefined) return `e${etag}`
  if (version !== undefined) return `v${version}`
  return `t${size},${lastModifiedMillis ?? ""}`
}

/** Size, time and, where the version is the ETag, the version: what key and version do not say. */
export const metaText: ItemText<ObjectMeta> = {
  encode: ({ etag, lastModifiedMillis, size, version }) => {
    const time = lastModifiedMillis === undefined ? "" : lastModifiedMillis.toString(36)
    const numbers = `${size.toString(36)},${time}`
    return etag === undefined || version === undefined ? numbers : `${numbers},${version}`
  },
  decode: (text, key, token) => {
    const [size = "", time = "", ...rest] = text.split(",")
    const version = token.startsWith("v") ? token.slice(1) : rest.length > 0 ? rest.join(",") : undefined
    return {
      key,
      size: Number.parseInt(size, 36),
      ...(token.startsWith("e") ? { etag: token.slice(1) } : {}),
      ...(time === "" ? {} : { lastModifiedMillis: Number.parseInt(time, 36) }),
      ...(version === undefined ? {} : { version })
    }
  }
}
