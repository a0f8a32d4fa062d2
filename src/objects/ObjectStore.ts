/**
 * One bucket, container or folder of objects: list, look at, read, write and remove them.
 *
 * Every backend keeps the same rules, tested by one contract: a page says nothing of what comes behind it, a container that
 * is not there is an error and never an empty one, and a key comes back exactly as it was put.
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

/**
 * What a store says of an object without reading it.
 *
 * - `key`: its full name within the store, any Unicode text.
 * - `size`: in bytes.
 * - `etag`: as the store sends it, with its quotes.
 * - `lastModifiedMillis`: by the store's clock, since 1970; many stores cut it to seconds.
 * - `version`: the store's own name for this state of the object: a generation, a version id; of a file its modification time
 *   in nanoseconds, size and inode.
 *
 * @category models
 * @since 0.1.0
 */
export interface ObjectMeta {
  readonly key: string
  readonly size: number
  readonly etag?: string
  readonly lastModifiedMillis?: number
  readonly version?: string
}

/**
 * The codec of {@link ObjectMeta}.
 *
 * **Example**
 * ```ts
 * import { Schema } from "effect"
 * import { ObjectStore } from "effect-periscope/objects"
 *
 * const meta = Schema.decodeUnknownSync(ObjectStore.ObjectMeta)({ key: "conf/a", size: 2, etag: '"1"' })
 *
 * meta.etag // => '"1"'
 * ```
 *
 * @category schemas
 * @since 0.1.0
 */
export const ObjectMeta: Schema.Schema<ObjectMeta> = Schema.Struct({
  key: Schema.String,
  size: Schema.Number,
  etag: Schema.optionalWith(Schema.String, { exact: true }),
  lastModifiedMillis: Schema.optionalWith(Schema.Number, { exact: true }),
  version: Schema.optionalWith(Schema.String, { exact: true })
})

/**
 * Which page to list.
 *
 * - `prefix`: keys that begin with this text [all]. It is compared as text, not by path segments.
 * - `token`: the `next` of the page before [the first page].
 * - `maxKeys`: no more objects than that in one page, from 1 to what the store can do [1000]. A page may hold fewer, even none,
 *   and not be the last.
 *
 * @category models
 * @since 0.1.0
 */
export interface ListPageOptions {
  readonly prefix?: string | undefined
  readonly token?: string | undefined
  readonly maxKeys?: number | undefined
}

/**
 * One page of a listing; without `next` it is the last one. `nowMillis` is the time of the store's own clock when it answered,
 * where it says so.
 *
 * @category models
 * @since 0.1.0
 */
export interface ObjectPage {
  readonly objects: ReadonlyArray<ObjectMeta>
  readonly next?: string
  readonly nowMillis?: number
}

/**
 * Why a store could not do something.
 *
 * - `NotFound`: there is no object of this key.
 * - `MissingContainer`: there is no such bucket, container or folder, or the address is not that of a store.
 * - `Unauthorized`: the credentials are missing, wrong, expired or do not allow it; or a file may not be read.
 * - `InvalidRequest`: a key, prefix or setting that this store cannot take, such as another region's bucket.
 * - `StaleToken`: the store no longer accepts the token of a page. Retryable: list from the start.
 * - `Network`: no connection, or it broke before the answer. Retryable.
 * - `Timeout`: no complete answer in time. Retryable.
 * - `Status`: any other answer that is no success, such as 503 (retryable, as 408, 425, 429 and all 5xx) or 409 (not).
 * - `Truncated`: the answer ended too early. Retryable.
 * - `Decode`: the answer cannot be read, such as a page that is no listing. Retryable.
 * - `Io`: the file system failed. Retryable.
 *
 * **Example**
 * ```ts
 * import { Schema } from "effect"
 * import { ObjectStore } from "effect-periscope/objects"
 *
 * Schema.is(ObjectStore.Reason)("NotFound") // => true
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export const Reason = Schema.Literal(
  "NotFound",
  "MissingContainer",
  "Unauthorized",
  "InvalidRequest",
  "StaleToken",
  "Network",
  "Timeout",
  "Status",
  "Truncated",
  "Decode",
  "Io"
)

/**
 * Why a store could not do something: the type of {@link Reason}.
 *
 * @category errors
 * @since 0.1.0
 */
export type Reason = typeof Reason.Type

const retryable: ReadonlySet<Reason> = new Set(["StaleToken", "Network", "Timeout", "Truncated", "Decode", "Io"])

/**
 * The error of every store; {@link Reason} lists what can go wrong.
 *
 * **Details** `store` is the store's identity, `operation` the function that failed. The message names both and says what to
 * do. No field holds a credential, a signature or a body.
 *
 * **Example**
 * ```ts
 * import { ObjectStore } from "effect-periscope/objects"
 *
 * const slowDown = new ObjectStore.ObjectStoreError({
 *   reason: "Status",
 *   store: "s3://reports",
 *   operation: "listPage",
 *   message: "s3://reports: listPage was answered with 503 SlowDown.",
 *   status: 503
 * })
 *
 * slowDown.isRetryable // => true
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class ObjectStoreError extends Schema.TaggedError<ObjectStoreError>("effect-periscope/ObjectStoreError")(
  "ObjectStoreError",
  {
    reason: Reason,
    store: Schema.String,
    operation: Schema.Literal("listPage", "head", "get", "put", "remove"),
    key: Schema.optional(Schema.String),
    message: Schema.String,
    status: Schema.optional(Schema.Number),
    /** How long the store asks to wait. */
    retryAfter: Schema.optional(Schema.Duration)
  }
) {
  /** Whether the same call may succeed later without anybody changing something. */
  get isRetryable(): boolean {
    if (this.reason !== "Status") return retryable.has(this.reason)
    const status = this.status ?? 500
    return status === 408 || status === 425 || status === 429 || status >= 500
  }
}

/**
 * What {@link make} builds a store from.
 *
 * - `identity`: names the store: its address without secrets, the same in every process that means the same store. State that
 *   was saved for another identity is refused.
 * - `listPage`: one page, in whatever order the store has.
 * - `head`: what the store says of one object.
 * - `get`: its bytes. The connection is released with the stream.
 * - `put`: writes a whole object, over one that is there; gives what a listing would now say of it, as far as the store tells.
 * - `remove`: no error where there is no such object.
 *
 * @category models
 * @since 0.1.0
 */
export interface Backend {
  readonly identity: string
  readonly listPage: (options?: ListPageOptions) => Effect.Effect<ObjectPage, ObjectStoreError>
  readonly head: (key: string) => Effect.Effect<ObjectMeta, ObjectStoreError>
  readonly get: (key: string) => Stream.Stream<Uint8Array, ObjectStoreError>
  readonly put: (
    key: string,
    content: Uint8Array | string,
    options?: PutOptions
  ) => Effect.Effect<ObjectMeta, ObjectStoreError>
  readonly remove: (key: string) => Effect.Effect<void, ObjectStoreError>
}

/**
 * How to write an object.
 *
 * - `contentType`: kept by stores that know content types [`application/octet-stream`].
 *
 * @category models
 * @since 0.1.0
 */
export interface PutOptions {
  readonly contentType?: string | undefined
}

/**
 * A bucket, container or folder: a {@link Backend}, and `list`, which gives all pages as one Stream.
 *
 * **Example**
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { Memory, ObjectStore } from "effect-periscope/objects"
 *
 * const program = Effect.gen(function* () {
 *   const store = yield* ObjectStore.ObjectStore
 *   yield* store.put("conf/a", "1")
 *   yield* store.put("conf/b", "22")
 *   return yield* Stream.runFold(store.list({ prefix: "conf/" }), 0, (bytes, { size }) => bytes + size)
 * }).pipe(Effect.provide(Memory.layer()))
 *
 * await Effect.runPromise(program) // => 3
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class ObjectStore extends Context.Tag("effect-periscope/ObjectStore")<
  ObjectStore,
  Backend & {
    /** All objects whose key begins with `prefix`. It fails rather than end early. */
    readonly list: (
      options?: Pick<ListPageOptions, "prefix" | "maxKeys">
    ) => Stream.Stream<ObjectMeta, ObjectStoreError>
  }
>() {}

/**
 * Makes a store from its backend.
 *
 * **Details** `list` is every page of `listPage`, one chunk a page; the next page is asked for when it is wanted.
 *
 * **Errors** `InvalidRequest`: an empty key, a key or prefix that is no Unicode text (half of a surrogate pair), `maxKeys` that
 * is not whole or below 1. The backend never sees them: an empty key in an address means the whole container. `Decode`: a page
 * names itself as the next one, which would never end.
 *
 * **Example**
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { Memory, ObjectStore } from "effect-periscope/objects"
 *
 * // another store, seen through a prefix of its own
 * const within = (folder: string, store: ObjectStore.Backend) =>
 *   ObjectStore.make({
 *     ...store,
 *     identity: `${store.identity}/${folder}`,
 *     head: (key) => store.head(`${folder}/${key}`),
 *     get: (key) => store.get(`${folder}/${key}`)
 *   })
 *
 * const program = Effect.gen(function* () {
 *   const store = yield* Memory.make({ objects: { "conf/a": "1" } })
 *   return yield* Stream.mkString(Stream.decodeText(within("conf", store).get("a")))
 * })
 *
 * await Effect.runPromise(program) // => "1"
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (backend: Backend): Context.Tag.Service<ObjectStore> => {
  const { identity } = backend
  const checked = (operation: ObjectStoreError["operation"], key: string) =>
    key === ""
      ? refuse(identity, operation, "the key is empty", key)
      : isText(key)
        ? Effect.void
        : refuse(identity, operation, "the key holds half of a surrogate pair, which no store can keep", key)
  const listPage: Backend["listPage"] = (options = {}) => {
    const { maxKeys = 1, prefix = "", token } = options
    if (!Number.isSafeInteger(maxKeys) || maxKeys < 1) {
      return refuse(identity, "listPage", `\`maxKeys\` is ${maxKeys}; it must be a whole number of 1 or more`)
    }
    if (!isText(prefix)) return refuse(identity, "listPage", "the prefix holds half of a surrogate pair")
    return Effect.filterOrFail(
      backend.listPage(options),
      ({ next }) => next === undefined || next !== token,
      () =>
        new ObjectStoreError({
          reason: "Decode",
          store: identity,
          operation: "listPage",
          message: `${identity}: listPage gave a page that names itself as the next one; the listing would never end.`
        })
    )
  }
  return ObjectStore.of({
    identity,
    listPage,
    head: (key) => Effect.flatMap(checked("head", key), () => backend.head(key)),
    get: (key) => Stream.unwrap(Effect.map(checked("get", key), () => backend.get(key))),
    put: (key, content, options) => Effect.flatMap(checked("put", key), () => backend.put(key, content, options)),
    remove: (key) => Effect.flatMap(checked("remove", key), () => backend.remove(key)),
    list: (options) =>
      Stream.unfoldChunkEffect(Option.some<string | undefined>(undefined), (from) =>
        Option.isNone(from)
          ? Effect.succeedNone
          : Effect.map(listPage({ ...options, token: from.value }), (page) =>
              Option.some([Chunk.unsafeFromArray(page.objects), Option.fromNullable(page.next)] as const)
            )
      )
  })
}

const isText = (text: string): boolean => !/\p{Surrogate}/u.test(text)

const refuse = (
  store: string,
  operation: ObjectStoreError["operation"],
  problem: string,
  key?: string
): Effect.Effect<never, ObjectStoreError> =>
  Effect.fail(
    new ObjectStoreError({
      reason: "InvalidRequest",
      store,
      operation,
      ...(key === undefined ? {} : { key }),
      message: `${store}: ${operation} cannot be asked: ${problem}.`
    })
  )
