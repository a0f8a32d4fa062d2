/**
 * How a correct server answers for a document and for a paged list, as plain functions of the call.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { createHash } from "node:crypto"
import { compareKeys } from "../core/page.js"

/** What a server looks at of a request. */
export interface Asked {
  readonly at: number
  readonly method: string
  readonly url: string
  readonly query: URLSearchParams
  readonly headers: Readonly<Record<string, string>>
}

export interface Served {
  readonly status?: number
  readonly headers: Readonly<Record<string, string>>
  readonly body?: Uint8Array
}

/** What a document is: text, bytes or JSON. */
export type Content = string | Uint8Array | { readonly json: unknown }

export interface Document {
  readonly answer: (asked: Asked) => Served
  readonly set: (content: Content) => void
  readonly remove: () => void
}

/** What is served: its bytes, and what says which version they are. */
interface Version {
  readonly bytes: Uint8Array
  readonly headers: Readonly<Record<string, string>>
  readonly etag: string | undefined
  /** In epoch milliseconds. */
  readonly modified: number | undefined
}

/** The time of the program that calls; there is none outside of a fiber. */
const now = (): number =>
  Option.match(Fiber.getCurrentFiber(), {
    onNone: () => 0,
    onSome: (fiber) => Context.get(fiber.currentDefaultServices, Clock.Clock).unsafeCurrentTimeMillis()
  })

const httpDate = (millis: number): string => new Date(millis).toUTCString()

const etagOf = (bytes: Uint8Array): string => `"${createHash("sha256").update(bytes).digest("base64url").slice(0, 16)}"`

const opaque = (etag: string): string => etag.trim().replace(/^W\//, "")

/** Whether the request has this version already; If-None-Match alone decides where it is there. */
const isKnown = ({ headers }: Asked, { etag, modified }: Version): boolean => {
  const noneMatch = headers["if-none-match"]
  if (noneMatch !== undefined) {
    const listed = noneMatch.match(/(?:W\/)?"[^"]*"/g) ?? []
    return noneMatch.trim() === "*" || (etag !== undefined && listed.some((one) => opaque(one) === opaque(etag)))
  }
  const since = Date.parse(headers["if-modified-since"] ?? "")
  return modified !== undefined && Math.floor(modified / 1000) * 1000 <= since
}

const serve = (call: Asked, version: Version | undefined): Served => {
  const date = httpDate(call.at)
  if (call.method !== "GET" && call.method !== "HEAD") return { status: 405, headers: { date, allow: "GET, HEAD" } }
  if (version === undefined) return { status: 404, headers: { date } }
  const { bytes, etag, modified } = version
  const headers = {
    date,
    ...(etag === undefined ? {} : { etag }),
    ...(modified === undefined ? {} : { "last-modified": httpDate(modified) }),
    ...version.headers
  }
  return isKnown(call, version) ? { status: 304, headers } : { headers, body: bytes }
}

const encode = (text: string): Uint8Array => new TextEncoder().encode(text)

const typeOf = (content: Content): string =>
  typeof content === "string"
    ? "text/plain; charset=utf-8"
    : content instanceof Uint8Array
      ? "application/octet-stream"
      : "application/json"

export const document = (
  content: Content | undefined,
  options: {
    readonly etag?: "strong" | "weak" | "none" | undefined
    readonly lastModified?: boolean | undefined
    readonly headers?: Readonly<Record<string, string>> | undefined
  }
): Document => {
  const versionOf = (next: Content): Version => {
    const bytes =
      typeof next === "string" ? encode(next) : next instanceof Uint8Array ? next : encode(JSON.stringify(next.json))
    const etag = options.etag === "none" ? undefined : `${options.etag === "weak" ? "W/" : ""}${etagOf(bytes)}`
    return {
      bytes,
      headers: { "content-type": typeOf(next), ...options.headers },
      etag,
      modified: options.lastModified === false ? undefined : now()
    }
  }
  let current = content === undefined ? undefined : versionOf(content)
  return {
    answer: (call) => serve(call, current),
    set: (next) => void (current = versionOf(next)),
    remove: () => void (current = undefined)
  }
}

/** One page, and the query that asks for the next one. */
interface Page {
  readonly items: ReadonlyArray<unknown>
  readonly next: readonly [name: string, value: string] | undefined
}

const pageOfMap = (items: ReadonlyMap<string, unknown>, { query }: Asked, size: number): Page => {
  const after = query.get("after")
  const keys = [...items.keys()].sort(compareKeys)
  const rest = after === null ? keys : keys.filter((key) => compareKeys(key, after) > 0)
  const page = rest.slice(0, size)
  return {
    items: page.map((key) => items.get(key)),
    next: rest.length > size ? ["after", page[page.length - 1]!] : undefined
  }
}

const pageOfArray = (items: ReadonlyArray<unknown>, { query }: Asked, size: number): Page => {
  const offset = Number(query.get("offset") ?? 0)
  const end = offset + size
  return { items: items.slice(offset, end), next: end < items.length ? ["offset", String(end)] : undefined }
}

const linkTo = ({ url }: Asked, [name, value]: readonly [string, string]): string => {
  const target = new URL(url)
  target.searchParams.set(name, value)
  return `<${target.href}>; rel="next"`
}

export const list = <A>(
  items: ReadonlyArray<A> | ReadonlyMap<string, A>,
  pageSize: number
): ((call: Asked) => Served) => {
  if (!Number.isSafeInteger(pageSize) || pageSize < 1) {
    throw new Error(`ScriptedHttpClient: \`pageSize\` is ${pageSize}; it must be a whole number of 1 or more.`)
  }
  const isMap = (value: typeof items): value is ReadonlyMap<string, A> => value instanceof Map
  return (call) => {
    const { items: page, next } = isMap(items) ? pageOfMap(items, call, pageSize) : pageOfArray(items, call, pageSize)
    const bytes = encode(JSON.stringify(page))
    const link = next === undefined ? undefined : linkTo(call, next)
    return serve(call, {
      bytes,
      headers: { "content-type": "application/json", ...(link === undefined ? {} : { link }) },
      // of the body alone, as most servers have it: another next page is no other version
      etag: etagOf(bytes),
      modified: undefined
    })
  }
}
