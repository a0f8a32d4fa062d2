/**
 * What a change holds, for scripts and for people: a document as it was answered, one item of a list, what a store says of
 * an object, an entry of a log, an event of a Tap server, or a frame of a WebSocket.
 */
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { HttpItem } from "../http/HttpSource.js"
import type { Row } from "../log/ChangeLog.js"
import type { ObjectMeta } from "../objects/ObjectStore.js"
import * as logValue from "./logValue.js"
import * as objectValue from "./objectValue.js"
import type { TapItem } from "./tapValue.js"
import * as tapValue from "./tapValue.js"
import type { WsItem } from "./wsValue.js"
import * as wsValue from "./wsValue.js"

/** One item of a list: what names it there, and its text, with numbers as they were sent. */
export const ListedItem = Schema.Struct({ key: Schema.String, json: Schema.String })
export interface ListedItem extends Schema.Schema.Type<typeof ListedItem> {}

export type Value = Content | ObjectMeta | Row | TapItem | WsItem

const isListed = (value: Value): value is ListedItem => !("body" in value) && "json" in value

/** What has content, and not only a size. */
export type Content = HttpItem | ListedItem

/** Whether it is what a store says of an object. */
export const isObject = (value: Value): value is ObjectMeta =>
  !("json" in value || "body" in value || "cursor" in value || "event" in value || "frame" in value)

/** Whether it is an entry of a log. */
export const isEntry = (value: Value): value is Row => "cursor" in value

/** Whether it is an event of a Tap server. */
export const isEvent = (value: Value): value is TapItem => "event" in value

/** Whether it is a frame of a WebSocket. */
export const isFrame = (value: Value): value is WsItem => "frame" in value

export const object = (fields: ReadonlyArray<readonly [name: string, json: string | undefined]>): string =>
  `{${fields.flatMap(([name, json]) => (json === undefined ? [] : [`${JSON.stringify(name)}:${json}`])).join(",")}}`

const optional = (value: Option.Option<string>): string | undefined =>
  Option.getOrUndefined(Option.map(value, (text) => JSON.stringify(text)))

/** As JSON, on one line. */
export const encode = (value: Value): string => {
  if (isObject(value)) return object(objectValue.fields(value))
  if (isEntry(value)) return object(logValue.fields(value, minified))
  if (isEvent(value)) return tapValue.encode(value)
  if (isFrame(value)) return object(wsValue.fields(value, minified))
  return isListed(value) ? object([["json", value.json]]) : encodeDocument(value)
}

const encodeDocument = (item: HttpItem): string =>
  object([
    ["url", JSON.stringify(item.url)],
    ["status", String(item.status)],
    ["etag", optional(item.etag)],
    ["lastModified", optional(item.lastModified)],
    ["contentType", optional(item.contentType)],
    bodyField(item)
  ])

const bodyField = (item: HttpItem): readonly [string, string] => {
  const text = utf8(item.body)
  if (text === undefined) return ["bodyBase64", JSON.stringify(Buffer.from(item.body).toString("base64"))]
  const json = documentJson(item, text)
  return json === undefined ? ["body", JSON.stringify(text)] : ["json", minified(json.text)]
}

const utf8 = (bytes: Uint8Array): string | undefined =>
  Either.getOrUndefined(Either.try(() => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes)))

/** The content type without its parameters; "" where there is none. */
const mediaType = (item: HttpItem): string =>
  Option.getOrElse(item.contentType, () => "")
    .split(";")[0]!
    .trim()

interface Json {
  readonly text: string
  readonly value: unknown
}

/** The body as JSON, if its type says so and it parses. */
const documentJson = (item: HttpItem, decoded: string | undefined): Json | undefined => {
  if (decoded === undefined || !/^(application|text)\/json$|\+json$/i.test(mediaType(item))) return undefined
  const text = decoded.replace(/^\ufeff/, "")
  return Either.getOrUndefined(Either.try(() => ({ text, value: JSON.parse(text) as unknown })))
}

/** As JSON, where it is. */
export const jsonOf = (value: Content): Json | undefined =>
  isListed(value) ? { text: value.json, value: JSON.parse(value.json) } : documentJson(value, utf8(value.body))

/** As text, where it is UTF-8. */
export const textOf = (value: Content): string | undefined => (isListed(value) ? value.json : utf8(value.body))

/** Bytes. */
export const sizeOf = (value: Content): number => (isListed(value) ? Buffer.byteLength(value.json) : value.body.length)

/** What it is, in words beside its size: status and type of a document. */
export const kindOf = (value: Content): ReadonlyArray<string> =>
  isListed(value) ? [] : [value.status === 200 ? "" : String(value.status), mediaType(value)]

const quote = 0x22
const backslash = 0x5c

/** Valid JSON without its white space. The digits stay as they were sent: as a number 12345678901234567890 would lose some. */
export const minified = (json: string): string => {
  const parts: Array<string> = []
  let from = 0
  let isInside = false
  for (let at = 0; at < json.length; at++) {
    const code = json.charCodeAt(at)
    if (isInside) {
      if (code === backslash) at++
      else if (code === quote) isInside = false
    } else if (code === quote) {
      isInside = true
    } else if (code === 0x20 || (code >= 0x09 && code <= 0x0d)) {
      if (at > from) parts.push(json.slice(from, at))
      from = at + 1
    }
  }
  parts.push(json.slice(from))
  return parts.join("")
}
