/**
 * Reads the JSON of Cloud Storage: a page of a listing, one object, an error. What is cut or of another shape is no page.
 */
import * as Either from "effect/Either"
import type { ObjectMeta, ObjectPage } from "./ObjectStore.js"

/** Why a text is not what was asked for. */
export interface Problem {
  readonly reason: "Truncated" | "Decode"
  readonly detail: string
}

/** What `objectOf` needs; a listing is asked for no more than that. */
export const objectFields = "name,size,etag,generation,updated"

type Json = { readonly [name: string]: unknown }

const isObject = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value)

const refuse = (detail: string): Either.Either<never, Problem> => Either.left({ reason: "Decode", detail })

const parse = (bytes: Uint8Array): Either.Either<Json, Problem> => {
  const text = Either.try(() => new TextDecoder("utf-8", { fatal: true }).decode(bytes))
  if (Either.isLeft(text)) return Either.left({ reason: "Truncated", detail: "got text that is cut or garbled" })
  const start = text.right.trimStart()
  if (start === "") return Either.left({ reason: "Truncated", detail: "got no text at all" })
  if (!start.startsWith("{")) return refuse("got no JSON; is the endpoint that of Cloud Storage?")
  const json = Either.try((): unknown => JSON.parse(text.right))
  return Either.isRight(json) && isObject(json.right)
    ? Either.right(json.right)
    : Either.left({ reason: "Truncated", detail: "got JSON that is cut or garbled" })
}

/** A time as it is sent, like 2026-01-31T12:00:00.000Z, as milliseconds; `NaN` for anything else. */
const millisOf = (value: unknown): number =>
  typeof value === "string" && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(value)
    ? Date.parse(value)
    : NaN

/** The metadata of one object. Sizes and generations are sent as text: a generation is beyond 2^53 one day. */
const metaOf = (item: unknown): Either.Either<ObjectMeta, Problem> => {
  if (!isObject(item)) return refuse("got an object of another shape")
  const { etag, generation, name, size, updated } = item
  if (typeof name !== "string" || name === "") return refuse("got an object without a name")
  const bytes = typeof size === "string" && /^\d{1,16}$/.test(size) ? Number(size) : NaN
  if (!Number.isSafeInteger(bytes)) return refuse("got an object without a size")
  if (typeof generation !== "string" || !/^\d+$/.test(generation)) return refuse("got an object without a generation")
  const lastModifiedMillis = millisOf(updated)
  if (Number.isNaN(lastModifiedMillis)) return refuse("got an object without a time of change")
  if (etag === undefined) return Either.right({ key: name, size: bytes, lastModifiedMillis, version: generation })
  return typeof etag === "string" && etag !== ""
    ? Either.right({ key: name, size: bytes, etag, lastModifiedMillis, version: generation })
    : refuse("got an object whose etag is no text")
}

/** One object, as `get` and `insert` of the JSON API answer. */
export const decodeObject = (bytes: Uint8Array): Either.Either<ObjectMeta, Problem> =>
  Either.flatMap(parse(bytes), (json) =>
    json["kind"] === "storage#object"
      ? metaOf(json)
      : refuse("got JSON that is no object of Cloud Storage; is the endpoint right?")
  )

/** A page. One of an empty bucket has no `items`, so it is its `kind` that tells it from any other JSON. */
export const decodePage = (bytes: Uint8Array): Either.Either<ObjectPage, Problem> =>
  Either.flatMap(parse(bytes), (json): Either.Either<ObjectPage, Problem> => {
    if (json["kind"] !== "storage#objects")
      return refuse("got JSON that is no listing of Cloud Storage; is the endpoint right?")
    const { items = [], nextPageToken } = json
    if (!Array.isArray(items)) return refuse("got a listing whose items are no list")
    if (nextPageToken !== undefined && (typeof nextPageToken !== "string" || nextPageToken === "")) {
      return refuse("got a listing whose token is no text")
    }
    const objects: Array<ObjectMeta> = []
    for (const item of items) {
      const meta = metaOf(item)
      if (Either.isLeft(meta)) return Either.left(meta.left)
      objects.push(meta.right)
    }
    return Either.right(nextPageToken === undefined ? { objects } : { objects, next: nextPageToken })
  })

/** What an answer says of an error; `undefined`: it is not an answer of the JSON API. */
export const decodeError = (bytes: Uint8Array): { readonly code: unknown } | undefined =>
  Either.match(parse(bytes), {
    onLeft: () => undefined,
    onRight: ({ error }) => {
      if (!isObject(error)) return undefined
      const first: unknown = Array.isArray(error["errors"]) ? error["errors"][0] : undefined
      return { code: isObject(first) ? first["reason"] : error["status"] }
    }
  })
