/**
 * A change as one line of NDJSON: the contract that scripts depend on.
 */
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type * as Change from "../core/Change.js"
import type { HttpItem } from "../http/HttpSource.js"

/** A change with what its line says beside it. */
export interface Found {
  readonly id: string
  readonly source: string
  readonly observedAt: number
  readonly redelivered: boolean
  readonly change: Change.Change<HttpItem>
}

/** The line, without its end. */
export const encode = ({ id, source, observedAt, redelivered, change }: Found): string =>
  object([
    ["id", JSON.stringify(id)],
    ["type", JSON.stringify(change._tag)],
    ["source", JSON.stringify(source)],
    ["key", JSON.stringify(change.key)],
    ["value", change._tag === "Removed" ? undefined : httpValue(change.value)],
    ["previous", change._tag === "Added" ? undefined : Option.getOrUndefined(Option.map(change.previous, httpValue))],
    ["observedAt", JSON.stringify(new Date(observedAt).toISOString())],
    ["redelivered", redelivered ? "true" : undefined]
  ])

const object = (fields: ReadonlyArray<readonly [name: string, json: string | undefined]>): string =>
  `{${fields.flatMap(([name, json]) => (json === undefined ? [] : [`${JSON.stringify(name)}:${json}`])).join(",")}}`

const optional = (value: Option.Option<string>): string | undefined =>
  Option.getOrUndefined(Option.map(value, (text) => JSON.stringify(text)))

const httpValue = (item: HttpItem): string =>
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
  const json = jsonOf(item, text)
  return json === undefined ? ["body", JSON.stringify(text)] : ["json", minified(json.text)]
}

const utf8 = (bytes: Uint8Array): string | undefined =>
  Either.getOrUndefined(Either.try(() => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes)))

/** The content type without its parameters; "" where there is none. */
export const mediaType = (item: HttpItem): string =>
  Option.getOrElse(item.contentType, () => "")
    .split(";")[0]!
    .trim()

/** The body as JSON, if its type says so and it parses. */
export const jsonOf = (
  item: HttpItem,
  decoded: string | undefined = utf8(item.body)
): { readonly text: string; readonly value: unknown } | undefined => {
  const type = mediaType(item).toLowerCase()
  if (decoded === undefined || !/^(application|text)\/json$|\+json$/.test(type)) return undefined
  const text = decoded.replace(/^\ufeff/, "")
  return Either.getOrUndefined(Either.try(() => ({ text, value: JSON.parse(text) as unknown })))
}

/** The body as text, if it is UTF-8. */
export const textOf = (item: HttpItem): string | undefined => utf8(item.body)

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
