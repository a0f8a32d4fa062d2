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
 * One page of a listing; without `next` it is the last one.
 *
 * @category models
 * @since 0.1.0
 */
export interface ObjectPage {
  readonly objects: ReadonlyArray<ObjectMeta>
  readonly next?: string
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
 * @category constructors
 * @since 0.1.0
 */
export const make = (backend: Backend): Context.Tag.Service<ObjectStore> =>
  ObjectStore.of({
    ...backend,
    list: (options) =>
      Stream.unfoldChunkEffect(Option.some<string | undefined>(undefined), (from) =>
        Option.isNone(from)
          ? Effect.succeedNone
          : Effect.map(backend.listPage({ ...options, token: from.value }), (page) =>
              Option.some([Chunk.unsafeFromArray(page.objects), Option.fromNullable(page.next)] as const)
            )
      )
  })
