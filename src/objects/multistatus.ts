/**
 * Reads the multi-status answer of a WebDAV server as it comes in, whatever prefixes its namespaces have.
 *
 * An answer that ends early, is too long, or is no multi-status at all, is an error and never a shorter list.
 */
import * as Data from "effect/Data"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type { SaxesTagNS } from "saxes"
import { SaxesParser } from "saxes"

/** What a server says of one resource. */
export interface Resource {
  /** As it was sent: an address or a path, percent-encoded. */
  readonly href: string
  /** Of the whole resource, or of its properties: 200, or what keeps us from them. */
  readonly status: number
  readonly isFolder: boolean | undefined
  readonly size: number | undefined
  readonly etag: string | undefined
  readonly lastModifiedMillis: number | undefined
}

/** Why an answer cannot be read. */
export class MultistatusError extends Data.TaggedError("MultistatusError")<{
  readonly reason: "Truncated" | "Decode" | "NoListing"
  readonly detail: string
}> {}

export interface Reader {
  /** Takes the next bytes; says why they cannot be read. */
  readonly write: (bytes: Uint8Array) => MultistatusError | undefined
  /** Ends the answer. */
  readonly end: () => Either.Either<ReadonlyArray<Resource>, MultistatusError>
}

interface Properties {
  isFolder?: boolean
  size?: number
  etag?: string
  lastModifiedMillis?: number
}

const dav = "DAV:"

const statusOf = (line: string): number => Number(/^\s*HTTP\/\d[\d.]*\s+(\d{3})/.exec(line)?.[1] ?? Number.NaN)

const isSuccess = (status: number): boolean => status >= 200 && status < 300

/** Where in the answer a text is that counts. */
const texts = new Set(["href", "status", "getcontentlength", "getetag", "getlastmodified"])

/** As much as the other stores take of one answer: here some 100,000 entries of a folder. */
const defaultMaxBytes = 64 * 1024 * 1024

/** Makes a reader for one answer, of which it takes `maxBytes` [64 MiB]. */
export const makeReader = (maxBytes: number = defaultMaxBytes): Reader => {
  const parser = new SaxesParser({ xmlns: true, position: false })
  const decoder = new TextDecoder("utf-8", { fatal: true })
  const resources: Array<Resource> = []
  const path: Array<string> = []
  let received = 0
  let failed: MultistatusError | undefined
  let isEnded = false
  let text: string | undefined

  let href: string | undefined
  let ownStatus: number | undefined
  let known: Properties = {}
  let refused: number | undefined
  let found: Properties = {}
  let foundStatus = Number.NaN

  const fail = (reason: MultistatusError["reason"], detail: string): void => {
    failed ??= new MultistatusError({ reason, detail })
  }

  const parent = (): string | undefined => path[path.length - 2]

  parser.on("error", () => fail("Decode", "sent XML that is not well-formed"))

  parser.on("opentag", (tag: SaxesTagNS) => {
    const name = tag.uri === dav ? tag.local : ""
    if (path.length === 0 && name !== "multistatus") fail("NoListing", "sent XML that is no multi-status")
    path.push(name)
    if (name === "response" && path.length === 2) {
      href = ownStatus = refused = undefined
      known = {}
    } else if (name === "propstat") {
      found = {}
      foundStatus = Number.NaN
    } else if (name === "resourcetype") found.isFolder = false
    else if (name === "collection" && parent() === "resourcetype") found.isFolder = true
    else if (texts.has(name)) text = ""
  })

  const collect = (part: string): void => {
    if (text !== undefined) text += part
  }
  parser.on("text", collect)
  parser.on("cdata", collect)

  parser.on("closetag", () => {
    const name = path[path.length - 1]!
    const above = parent()
    const value = (text ?? "").trim()
    if (texts.has(name)) text = undefined
    path.pop()
    if (name === "href" && above === "response") href = value
    else if (name === "status" && above === "response") ownStatus = statusOf(value)
    else if (name === "status" && above === "propstat") foundStatus = statusOf(value)
    else if (above === "prop") property(name, value)
    else if (name === "propstat") {
      if (isSuccess(foundStatus)) known = { ...known, ...found }
      // a property that is not there is no failure
      else if (foundStatus !== 404) refused ??= foundStatus
    } else if (name === "response" && path.length === 1) resource()
    else if (name === "multistatus") isEnded = path.length === 0
  })

  const property = (name: string, value: string): void => {
    if (name === "getcontentlength" && /^\d+$/.test(value)) found.size = Number(value)
    else if (name === "getetag" && value !== "") found.etag = value
    else if (name === "getlastmodified") {
      const millis = Date.parse(value)
      if (!Number.isNaN(millis)) found.lastModifiedMillis = millis
    }
  }

  const resource = (): void => {
    if (href === undefined) return fail("Decode", "sent a resource without an address")
    const status = ownStatus ?? (known.isFolder === undefined ? (refused ?? 200) : 200)
    if (Number.isNaN(status)) return fail("Decode", "sent a status that cannot be read")
    const { etag, isFolder, lastModifiedMillis, size } = known
    resources.push({ href, status, isFolder, size, etag, lastModifiedMillis })
  }

  const feed = (decode: () => string): MultistatusError | undefined => {
    const part = failed === undefined ? Option.liftThrowable(decode)() : Option.some("")
    if (Option.isNone(part)) fail("Decode", "sent XML that is not UTF-8")
    else if (part.value !== "") parser.write(part.value)
    return failed
  }

  return {
    write: (bytes) => {
      received += bytes.length
      if (received > maxBytes) fail("Decode", `sent a list of more than ${maxBytes} bytes`)
      return feed(() => decoder.decode(bytes, { stream: true }))
    },
    end: () => {
      feed(() => decoder.decode())
      if (!isEnded) fail("Truncated", "ended before its last element")
      if (failed === undefined) parser.close()
      return failed === undefined ? Either.right(resources) : Either.left(failed)
    }
  }
}
