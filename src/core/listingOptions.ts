/**
 * What a user tells of a listing, and what can go wrong with one.
 */
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { RemovalGuardOptions } from "./removalGuard.js"

/**
 * A walk could not go on: `NoProgress`, its pages lead in a circle; `TooManyPages`, more than `maxPages`; `Unencodable`, an
 * item does not fit its own codec. The walk starts over after the wait of a failed poll.
 *
 * **Example**
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Source, Watcher } from "effect-periscope"
 *
 * const stuck = Source.fromListing({
 *   name: "stuck",
 *   item: Schema.String,
 *   list: (_token: string | undefined) => Effect.succeed({ items: ["a"], next: "page 2" }),
 *   key: (item) => item
 * })
 *
 * const error = await Effect.runPromise(Effect.flip(Watcher.once(stuck)))
 * error instanceof Source.ListingError && error.reason // => "NoProgress"
 * ```
 */
export class ListingError extends Schema.TaggedError<ListingError>("effect-periscope/ListingError")("ListingError", {
  reason: Schema.Literal("NoProgress", "TooManyPages", "Unencodable"),
  source: Schema.String,
  message: Schema.String,
  cause: Schema.optional(Schema.Defect)
}) {
  /** A later walk may succeed. */
  get isRetryable(): boolean {
    return true
  }
}

/**
 * One page of a listing. Without `next` it is the last one. If it is also the first one, `validator` (say its ETag) comes
 * with the next walk, which may then answer {@link Unchanged}.
 *
 * `present` names keys that are there, but whose items are not to be looked at yet: they are neither added, nor compared, nor
 * missed.
 */
export interface ListPage<A, T = never, V = never> {
  readonly items: ReadonlyArray<A>
  readonly present?: ReadonlyArray<string> | undefined
  readonly next?: T | undefined
  readonly validator?: V | undefined
}

/**
 * Instead of a page: the whole listing is what it was when the validator was given. Another one takes its place.
 */
export interface Unchanged<V = never> {
  readonly _tag: "Unchanged"
  readonly validator?: V | undefined
}

/**
 * How to list, and how to compare.
 *
 * - `list`: gives the page behind a token, the first one without. `validator` is there where the last walk had one page that
 *   gave it and nothing is held back.
 * - `key`: names an item among all others.
 * - `version`: two items of one key are equal if their versions are [the encoded item itself].
 * - `confirmRemovals`: so many complete walks in a row must miss a key before it is removed, by the pages of the walk [1]. A
 *   list that is paged by position can skip an item that is there.
 * - `removalGuard`: when missing keys are believed [3 walks if more than 30 % of 10 or more are missing, or all].
 * - `snapshot`: `"items"` keeps items for `previous`; `"compact"` keeps keys and 64 bits of each version [`"items"`]. That a
 *   changed version has the same 64 bits happens once in 1.8e19 changes, unless somebody makes it so. What was saved compact
 *   stays so.
 * - `text`: how an item is kept for `previous` [JSON of its encoded form]. A shorter text makes a smaller snapshot. It needs
 *   `version`.
 * - `maxPreviousBytes`: an item whose text is longer is not kept [1 MiB].
 * - `maxPages`: bound of one walk [100,000].
 * - `maxPageAttempts`: so many failures of one page in a row start the walk over, as its token may be stale [5].
 * - `isStaleToken`: the errors that say so at once [none].
 */
export interface ListingOptions<A, I, T, E, R, V = never> {
  readonly item: Schema.Schema<A, I>
  readonly list: (
    page: T | undefined,
    validator: NoInfer<V> | undefined
  ) => Effect.Effect<ListPage<A, T, V> | Unchanged<V>, E, R>
  readonly key: (item: NoInfer<A>) => string
  readonly version?: ((item: NoInfer<A>) => string) | undefined
  readonly confirmRemovals?: number | ((pages: number) => number) | undefined
  readonly removalGuard?: RemovalGuardOptions | false | undefined
  readonly snapshot?: "items" | "compact" | undefined
  readonly text?: ItemText<NoInfer<A>> | undefined
  readonly maxPreviousBytes?: number | undefined
  readonly maxPages?: number | undefined
  readonly maxPageAttempts?: number | undefined
  readonly isStaleToken?: ((error: NoInfer<E>) => boolean) | undefined
}

/**
 * Writes items down as texts, and reads them back. Key and version are kept anyway, and need not stand in the text. `decode`
 * may throw: then `previous` is unknown.
 */
export interface ItemText<in out A> {
  readonly encode: (item: A) => string
  readonly decode: (text: string, key: string, version: string) => A
}
