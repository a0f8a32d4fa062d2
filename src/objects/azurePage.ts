/**
 * Reads what Azure says of blobs: a page of List Blobs, the headers of one blob, the code of an error.
 */
import * as Either from "effect/Either"
import type { ResponseHeaders } from "./cloudRequest.js"
import { parseDate, plainCode } from "./cloudRequest.js"
import type { ObjectMeta, ObjectPage } from "./ObjectStore.js"
import { XmlScanner } from "./xmlScanner.js"

/** Why a text is not what was asked for. */
export interface Problem {
  readonly reason: "Truncated" | "Decode"
  readonly detail: string
}

/** A listing gives an etag without the quotes that the headers of the same blob have. */
const quoted = (etag: string): string => (/^(W\/)?"/.test(etag) ? etag : `"${etag}"`)

const sizeOf = (text: string): number | undefined => {
  const size = /^\d{1,16}$/.test(text) ? Number(text) : NaN
  return Number.isSafeInteger(size) ? size : undefined
}

/** What is read of one `Blob`. */
interface Parts {
  key: string | undefined
  size: number | undefined
  etag: string | undefined
  lastModifiedMillis: number | undefined
  version: string | undefined
  isFolder: boolean
}

const toMeta = ({ etag, key, lastModifiedMillis, size, version }: Parts): ObjectMeta | undefined => {
  if (key === undefined || size === undefined || etag === undefined || lastModifiedMillis === undefined)
    return undefined
  return version === undefined
    ? { key, size, etag, lastModifiedMillis }
    : { key, size, etag, lastModifiedMillis, version }
}

const readProperties = (scanner: XmlScanner, parts: Parts): boolean =>
  scanner.children(() => {
    if (scanner.is("Last-Modified")) {
      parts.lastModifiedMillis = parseDate(scanner.text() ?? "")
      return parts.lastModifiedMillis !== undefined
    }
    if (scanner.is("Etag")) {
      const etag = scanner.text()
      parts.etag = etag === undefined || etag === "" ? undefined : quoted(etag)
      return parts.etag !== undefined
    }
    if (scanner.is("Content-Length")) {
      parts.size = sizeOf(scanner.text() ?? "")
      return parts.size !== undefined
    }
    if (!scanner.is("ResourceType")) return scanner.skip()
    const type = scanner.text()
    parts.isFolder = type === "directory"
    return type !== undefined
  })

/** A name with a character that XML cannot hold comes percent-encoded. */
const readName = (scanner: XmlScanner): string | undefined => {
  const isEncoded = scanner.has('Encoded="true"')
  const text = scanner.text()
  if (text === undefined || text === "") return undefined
  return isEncoded
    ? Either.getOrElse(
        Either.try(() => decodeURIComponent(text)),
        () => undefined
      )
    : text
}

/** Reads a `Blob`; folders of a hierarchical namespace are no objects. */
const readBlob = (scanner: XmlScanner, objects: Array<ObjectMeta>): boolean => {
  const parts: Parts = {
    key: undefined,
    size: undefined,
    etag: undefined,
    lastModifiedMillis: undefined,
    version: undefined,
    isFolder: false
  }
  const isRead = scanner.children(() => {
    if (scanner.is("Name")) {
      if (parts.key !== undefined) return false
      parts.key = readName(scanner)
      return parts.key !== undefined
    }
    if (scanner.is("Properties")) return readProperties(scanner, parts)
    if (!scanner.is("VersionId")) return scanner.skip()
    const version = scanner.text()
    if (version !== undefined && version !== "") parts.version = version
    return version !== undefined
  })
  if (!isRead) return false
  const meta = toMeta(parts)
  if (meta === undefined) return false
  if (!parts.isFolder) objects.push(meta)
  return true
}

/** A page: it must have both its list of blobs, though that may be empty, and its marker, empty on the last page. */
export const decodePage = (bytes: Uint8Array): Either.Either<ObjectPage, Problem> => {
  const scanner = new XmlScanner(bytes)
  const objects: Array<ObjectMeta> = []
  let lists = 0
  let markers = 0
  let next = ""
  const isRead = scanner.document("EnumerationResults", () => {
    if (scanner.is("Blobs")) {
      lists++
      return scanner.children(() => scanner.is("Blob") && readBlob(scanner, objects))
    }
    if (!scanner.is("NextMarker")) return scanner.skip()
    markers++
    const marker = scanner.text()
    next = marker ?? ""
    return marker !== undefined
  })
  if (!isRead && scanner.problem === "cut") {
    return Either.left({ reason: "Truncated", detail: "got XML that ends too early" })
  }
  if (!isRead || lists !== 1 || markers !== 1) {
    return Either.left({
      reason: "Decode",
      detail: "got something that is no listing of Azure Blob Storage; is the endpoint right?"
    })
  }
  return Either.right(next === "" ? { objects } : { objects, next })
}

/** One blob, as its headers say; `undefined`: they are not those of a blob. */
export const decodeHeaders = (
  key: string,
  headers: ResponseHeaders,
  size: string | undefined
): ObjectMeta | undefined => {
  const { etag, "last-modified": lastModified, "x-ms-version-id": version } = headers
  return headers["x-ms-request-id"] === undefined
    ? undefined
    : toMeta({
        key,
        size: sizeOf(size ?? ""),
        etag: etag === undefined ? undefined : quoted(etag),
        lastModifiedMillis: parseDate(lastModified ?? ""),
        version,
        isFolder: false
      })
}

/** What an answer says of an error; `undefined`: it is not an answer of Azure. HEAD has it in the headers alone. */
export const errorCode = (headers: ResponseHeaders, body: Uint8Array): string | undefined =>
  plainCode(headers["x-ms-error-code"]) ?? plainCode(/<Code>([^<]*)<\/Code>/.exec(new TextDecoder().decode(body))?.[1])
