/**
 * An object store in memory: for tests and demonstrations, gone with the process.
 *
 * It lists in the order of UTF-8 bytes, as S3 does, and says of each object what the clouds say: an ETag of its content, when it
 * was written, and a version that counts all writes. `ScriptedObjectStore` of `effect-periscope/testing` adds faults to it.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"
import type { ObjectMeta } from "./ObjectStore.js"
import * as ObjectStore from "./ObjectStore.js"
import { compareUtf8 } from "./utf8Order.js"

/**
 * What a store in memory starts with.
 *
 * - `identity`: names the store [`memory://`].
 * - `objects`: what is there at first, by key [nothing].
 * - `pageSize`: the most objects of a page, whatever is asked for [1000].
 * - `chunkSize`: the most bytes that `get` gives at once [64 KiB].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly identity?: string | undefined
  readonly objects?: Readonly<Record<string, Uint8Array | string>> | undefined
  readonly pageSize?: number | undefined
  readonly chunkSize?: number | undefined
}

interface Held {
  readonly meta: ObjectMeta
  readonly bytes: Uint8Array
}

/** Begins a token; what follows is the last key before the page. */
const tokenMark = "after:"

/**
 * Makes a store in memory.
 *
 * **Details** The token of a page names the last key before it: objects that come and go meanwhile cost no other object its
 * place in the listing.
 *
 * **Errors** `StaleToken`: a token that this store did not give for this prefix. A page or chunk size that is not whole or below
 * 1 throws at construction.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Memory } from "effect-periscope/objects"
 *
 * const program = Effect.gen(function* () {
 *   const store = yield* Memory.make({ objects: { a: "1", b: "2", c: "3" }, pageSize: 2 })
 *   const first = yield* store.listPage()
 *   const second = yield* store.listPage({ token: first.next })
 *   return [...first.objects, ...second.objects].map(({ key }) => key)
 * })
 *
 * await Effect.runPromise(program) // => ["a", "b", "c"]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Effect.Effect<Context.Tag.Service<ObjectStore.ObjectStore>> => {
  const { identity = "memory://", objects = {} } = options
  const pageSize = checkSize("pageSize", options.pageSize ?? 1000)
  const chunkSize = checkSize("chunkSize", options.chunkSize ?? 64 * 1024)
  return Effect.gen(function* () {
    const held = new Map<string, Held>()
    let sorted: ReadonlyArray<string> | undefined
    let version = 0

    const failed = (reason: ObjectStore.Reason, operation: "listPage" | "head" | "get", detail: string, key?: string) =>
      new ObjectStore.ObjectStoreError({
        reason,
        store: identity,
        operation,
        ...(key === undefined ? {} : { key }),
        message: `${identity}: ${operation} ${detail}`
      })

    const find = (operation: "head" | "get", key: string) =>
      Effect.suspend(() => {
        const found = held.get(key)
        return found === undefined
          ? failed("NotFound", operation, `found no object ${JSON.stringify(key)}.`, key)
          : Effect.succeed(found)
      })

    const put = (key: string, content: Uint8Array | string) =>
      Effect.map(Clock.currentTimeMillis, (lastModifiedMillis) => {
        const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content.slice()
        const etag = `"${createHash("md5").update(bytes).digest("hex")}"`
        const meta = { key, size: bytes.length, etag, lastModifiedMillis, version: String(++version) }
        if (!held.has(key)) sorted = undefined
        held.set(key, { meta, bytes })
        return meta
      })

    const listPage = ({ maxKeys = pageSize, prefix = "", token }: ObjectStore.ListPageOptions = {}) =>
      Effect.suspend((): Effect.Effect<ObjectStore.ObjectPage, ObjectStore.ObjectStoreError> => {
        if (token !== undefined && !token.startsWith(tokenMark + prefix)) {
          return failed("StaleToken", "listPage", "got a page token that this store did not give; list from the start.")
        }
        sorted ??= [...held.keys()].sort(compareUtf8)
        const size = Math.min(maxKeys, pageSize)
        const page: Array<ObjectMeta> = []
        let index = token === undefined ? from(sorted, prefix, 0) : from(sorted, token.slice(tokenMark.length), 1)
        for (; index < sorted.length && page.length < size && sorted[index]!.startsWith(prefix); index++) {
          page.push(held.get(sorted[index]!)!.meta)
        }
        const isLast = index === sorted.length || !sorted[index]!.startsWith(prefix)
        return Effect.succeed(isLast ? { objects: page } : { objects: page, next: tokenMark + sorted[index - 1]! })
      })

    for (const [key, content] of Object.entries(objects)) yield* put(key, content)
    return ObjectStore.make({
      identity,
      listPage,
      head: (key) => Effect.map(find("head", key), ({ meta }) => meta),
      get: (key) => Stream.unwrap(Effect.map(find("get", key), ({ bytes }) => chunks(bytes, chunkSize))),
      put,
      remove: (key) =>
        Effect.sync(() => {
          if (held.delete(key)) sorted = undefined
        })
    })
  })
}

/**
 * Provides a store in memory.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Memory, ObjectStore } from "effect-periscope/objects"
 *
 * const program = Effect.flatMap(ObjectStore.ObjectStore, (store) => store.head("a")).pipe(
 *   Effect.map(({ size }) => size),
 *   Effect.provide(Memory.layer({ objects: { a: "hello" } }))
 * )
 *
 * await Effect.runPromise(program) // => 5
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<ObjectStore.ObjectStore> =>
  Layer.effect(ObjectStore.ObjectStore, make(options))

/** The index of the first key that is not before `key`, or with `beyond` 1 of the first one behind it. */
const from = (sorted: ReadonlyArray<string>, key: string, beyond: 0 | 1): number => {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (compareUtf8(sorted[middle]!, key) < beyond) low = middle + 1
    else high = middle
  }
  return low
}

/** Copies of the bytes, so that nobody changes an object by changing an array. */
const chunks = (bytes: Uint8Array, size: number): Stream.Stream<Uint8Array> =>
  Stream.unfold(0, (offset) =>
    offset < bytes.length ? Option.some([bytes.slice(offset, offset + size), offset + size] as const) : Option.none()
  )

const checkSize = (option: string, value: number): number => {
  if (Number.isSafeInteger(value) && value >= 1) return value
  throw new Error(`Memory: \`${option}\` is ${value}; it must be a whole number of 1 or more.`)
}
