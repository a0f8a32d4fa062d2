/**
 * The walk of a listing, page by page: what each page changes, when a walk is complete, and which removals it proves.
 *
 * One page is one poll. The snapshot is durable, the walk lives in memory only: after a crash it starts over, and what its
 * pages had delivered is in the snapshot already.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import * as Change from "./Change.js"
import type { BlockCodec, Definition, Poll, Undelivered } from "./definition.js"
import type { Guard, RemovalGuardOptions, RemovalPlan } from "./removalGuard.js"
import * as removalGuard from "./removalGuard.js"
import * as snapshot from "./snapshot.js"

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
 */
export interface ListPage<A, T = never, V = never> {
  readonly items: ReadonlyArray<A>
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
 * - `snapshot`: `"items"` keeps items for `previous`, `"compact"` keeps keys and versions only [`"items"`].
 * - `maxPreviousBytes`: an item whose encoded text is longer is not kept [1 MiB].
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
  readonly maxPreviousBytes?: number | undefined
  readonly maxPages?: number | undefined
  readonly maxPageAttempts?: number | undefined
  readonly isStaleToken?: ((error: NoInfer<E>) => boolean) | undefined
}

/** A walk under way, in memory only. */
interface Walk {
  readonly token: unknown
  /** An earlier token, to find circles: that of the last page whose number is a power of two. */
  readonly mark: unknown
  readonly pages: number
  readonly failures: number
  readonly seen: snapshot.Seen
}

/** What is saved. */
interface Kept {
  readonly snapshot: snapshot.Snapshot
  /** How many keys were known after the last walk that the guard believed. */
  readonly known: number
  readonly plan: RemovalPlan | undefined
  /** Keys that are not removed yet, and how many complete walks in a row missed them. */
  readonly missed: ReadonlyMap<string, number>
  /** Released, and to be reported before anything else. */
  readonly removing: ReadonlyArray<string>
}

/** What is held back: by the guard, and until more walks have missed it. */
type Held = Pick<Kept, "plan" | "missed">

export interface ListingState {
  readonly kept: Kept
  readonly walk: Walk | undefined
  /** The plan was approved during a walk. */
  readonly approved: boolean
  /** A walk has just ended, so that the last release completes the observation. */
  readonly closing: boolean
  /** Of a last walk with one page, after which nothing was held back. */
  readonly validator: unknown
}

const restore = (kept: Kept): ListingState => ({
  kept,
  walk: undefined,
  approved: false,
  closing: false,
  validator: undefined
})

const none: ReadonlyMap<string, number> = new Map()

const initial = restore({ snapshot: snapshot.empty, known: 0, plan: undefined, missed: none, removing: [] })

const maxRelease = 1000

const Head = Schema.Struct({
  known: Schema.Int,
  plan: Schema.optionalWith(
    Schema.Struct({ keys: Schema.Array(Schema.String), listings: Schema.Int, confirmListings: Schema.Int }),
    { exact: true }
  ),
  missed: Schema.optionalWith(Schema.Array(Schema.Tuple(Schema.String, Schema.Int)), { exact: true }),
  removing: Schema.optionalWith(Schema.Array(Schema.String), { exact: true })
})

const codec: BlockCodec<Kept, typeof Head.Type, typeof Head.Encoded> = {
  head: Head,
  split: (kept) => ({
    head: {
      known: kept.known,
      ...(kept.plan === undefined ? {} : { plan: kept.plan }),
      ...(kept.missed.size === 0 ? {} : { missed: [...kept.missed] }),
      ...(kept.removing.length === 0 ? {} : { removing: kept.removing })
    },
    blocks: kept.snapshot.blocks.map((block) => block.bytes)
  }),
  join: (head, blocks) => ({
    snapshot: snapshot.fromBlocks(blocks),
    known: head.known,
    plan: head.plan,
    missed: new Map(head.missed),
    removing: head.removing ?? []
  })
}

interface Settings<A> {
  readonly name: string
  readonly guard: Guard | undefined
  readonly confirmRemovals: (pages: number) => number
  readonly toEntry: (item: A) => Effect.Effect<snapshot.Entry, ListingError>
  readonly toItem: (entry: snapshot.Entry) => Option.Option<A>
}

/** Reports the next released removals. */
const release = <A>(settings: Settings<A>, { closing, kept }: ListingState): Poll<A, ListingState> => {
  const removing = kept.removing.slice(maxRelease)
  const cut = snapshot.remove(kept.snapshot, new Set(kept.removing.slice(0, maxRelease)))
  const known = removing.length === 0 && kept.plan === undefined ? cut.snapshot.count : kept.known
  return {
    changes: cut.removed.map((entry) => Change.removed(entry.key, settings.toItem(entry))),
    state: {
      ...restore({ ...kept, snapshot: cut.snapshot, known, removing }),
      closing: closing && removing.length > 0
    },
    more: removing.length > 0 || !closing
  }
}

/** Ends a walk: which keys it proves to be gone, which are held back. */
const finish = <A>(
  settings: Settings<A>,
  { approved, kept, walk }: ListingState,
  held: Held,
  merged: snapshot.Merged,
  validator: unknown
): Omit<Poll<A, ListingState>, "changes"> => {
  const pages = (walk?.pages ?? 0) + 1
  const missing = snapshot.unseen(merged.snapshot, merged.seen)
  // before the first complete walk there is no count: then what earlier walks began with stands for it
  const expected = kept.known === 0 ? merged.snapshot.count : kept.known
  // what was approved are the keys of the plan: where all of them were seen again, nothing is
  const isApproved = approved && held.plan !== undefined
  const { plan, release } = removalGuard.decide(settings.guard, missing, expected, held.plan, isApproved)
  const confirmed = settings.confirmRemovals(pages)
  const missed = new Map(confirmed > 1 ? missing.map((key) => [key, (held.missed.get(key) ?? 0) + 1]) : [])
  const byHand = new Set(approved ? held.plan?.keys : [])
  const removing = release.filter((key) => byHand.has(key) || (missed.get(key) ?? 1) >= confirmed)
  for (const key of removing) missed.delete(key)
  const believed = plan === undefined && removing.length === 0
  const known = believed ? merged.snapshot.count : kept.known
  const nothingHeld = kept.plan === undefined && kept.missed.size === 0 && missed.size === 0
  const same = believed && nothingHeld && known === kept.known && merged.snapshot === kept.snapshot
  return {
    state: {
      ...restore(same ? kept : { snapshot: merged.snapshot, known, plan, missed, removing }),
      closing: removing.length > 0,
      validator: pages === 1 && missing.length === 0 ? validator : undefined
    },
    more: removing.length > 0,
    save: plan !== kept.plan || held.missed !== kept.missed
  }
}

const noProgress = (source: string): ListingError =>
  new ListingError({
    reason: "NoProgress",
    source,
    message: `${source}: the pages of the listing lead in a circle; the walk starts over.`
  })

const tooManyPages = (source: string, maxPages: number): ListingError =>
  new ListingError({
    reason: "TooManyPages",
    source,
    message: `${source}: the listing has more than ${maxPages} pages; raise \`maxPages\` or narrow the listing.`
  })

/** Sorts a page by key; of a repeated key the last item stands. */
const sortPage = <A>(items: ReadonlyArray<{ readonly entry: snapshot.Entry; readonly item: A }>) => {
  const inOrder = items.every(
    (current, index) => index === 0 || snapshot.compareKeys(items[index - 1]!.entry.key, current.entry.key) < 0
  )
  if (inOrder) return items
  const byKey = new Map(items.map((current) => [current.entry.key, current]))
  return [...byKey.values()].sort((a, b) => snapshot.compareKeys(a.entry.key, b.entry.key))
}

/** A key that is seen is held back no longer, also when its walk is cut short: it was not missed in a row. */
const withoutSeen = ({ missed, plan }: Held, page: ReadonlyArray<{ readonly entry: snapshot.Entry }>): Held => {
  if (plan === undefined && missed.size === 0) return { plan, missed }
  const seen = new Set(page.map(({ entry }) => entry.key))
  const keys = plan?.keys.filter((key) => !seen.has(key)) ?? []
  const still = new Map([...missed].filter(([key]) => !seen.has(key)))
  return {
    plan:
      plan === undefined || keys.length === plan.keys.length ? plan : keys.length === 0 ? undefined : { ...plan, keys },
    missed: still.size === missed.size ? missed : still
  }
}

const takePage = <A, T, V>(
  settings: Settings<A>,
  state: ListingState,
  page: ListPage<A, T, V>,
  entries: ReadonlyArray<{ readonly entry: snapshot.Entry; readonly item: A }>
): Poll<A, ListingState> => {
  const { kept, walk } = state
  const sorted = sortPage(entries)
  const held = withoutSeen(kept, sorted)
  const merged = snapshot.merge(
    kept.snapshot,
    walk?.seen ?? [],
    sorted.map((current) => current.entry)
  )
  const changes = merged.differences.map(({ before, index }): Change.Change<A> => {
    const { entry, item } = sorted[index]!
    return before === undefined
      ? Change.added(entry.key, item)
      : Change.modified(entry.key, item, settings.toItem(before))
  })
  if (page.next === undefined) return { changes, ...finish(settings, state, held, merged, page.validator) }
  const pages = (walk?.pages ?? 0) + 1
  const same = merged.snapshot === kept.snapshot && held.plan === kept.plan && held.missed === kept.missed
  return {
    changes,
    state: {
      ...state,
      kept: same ? kept : { ...kept, ...held, snapshot: merged.snapshot },
      walk: {
        token: page.next,
        mark: (pages & (pages - 1)) === 0 ? page.next : walk?.mark,
        pages,
        failures: 0,
        seen: merged.seen
      },
      closing: false,
      validator: undefined
    },
    more: true,
    save: held.plan !== kept.plan || held.missed !== kept.missed
  }
}

const recover =
  <E>(maxPageAttempts: number, isStaleToken: ((error: E) => boolean) | undefined) =>
  (state: ListingState, error: unknown): ListingState => {
    if (state.walk === undefined) return state
    const failures = state.walk.failures + 1
    const startOver =
      failures >= maxPageAttempts ||
      (error instanceof ListingError && error.reason !== "Unencodable") ||
      // a defect has no error to ask about
      (error !== undefined && isStaleToken !== undefined && isStaleToken(error as E))
    return { ...state, walk: startOver ? undefined : { ...state.walk, failures } }
  }

const positiveInteger = (name: string, value: number): number => {
  if (!Number.isInteger(value) || value < 1) {
    throw new Error(`Source.fromListing: \`${name}\` is ${value}; it must be a whole number of 1 or more.`)
  }
  return value
}

type Parts<A, E, R> = Pick<
  Definition<A, E, R, ListingState, A>,
  "state" | "initial" | "poll" | "durable" | "restore" | "recover" | "rewind" | "plan" | "approve"
>

export const make = <A, I, T, E, R, V>(
  options: ListingOptions<A, I, T, E, R, V> & { readonly name: string }
): Parts<A, E | ListingError, R> => {
  const { isStaleToken, item, key, list, name, version } = options
  const maxPages = positiveInteger("maxPages", options.maxPages ?? 100_000)
  const maxPageAttempts = positiveInteger("maxPageAttempts", options.maxPageAttempts ?? 5)
  const maxPreviousBytes = options.maxPreviousBytes ?? 1024 * 1024
  if (!(maxPreviousBytes >= 0)) {
    throw new Error(`Source.fromListing: \`maxPreviousBytes\` is ${maxPreviousBytes}; it must be 0 or more.`)
  }
  const { confirmRemovals = 1 } = options
  if (typeof confirmRemovals === "number") positiveInteger("confirmRemovals", confirmRemovals)
  const compact = options.snapshot === "compact"
  const encode = Schema.encode(item)
  const decode = Schema.decodeUnknownOption(item)
  const settings: Settings<A> = {
    name,
    guard: removalGuard.make(options.removalGuard),
    confirmRemovals: (pages) =>
      positiveInteger(
        "confirmRemovals",
        typeof confirmRemovals === "number" ? confirmRemovals : confirmRemovals(pages)
      ),
    toEntry: (value) => {
      if (compact && version !== undefined) {
        return Effect.suspend(() => wellFormed(name, { key: key(value), version: version(value), item: undefined }))
      }
      return Effect.matchEffect(encode(value), {
        onSuccess: (encoded) =>
          Effect.suspend(() => {
            const text = JSON.stringify(encoded)
            const item = compact || isLonger(text, maxPreviousBytes) ? undefined : text
            if (version !== undefined) return wellFormed(name, { key: key(value), version: version(value), item })
            // without a version the text is the version, and it need not be kept twice; no JSON text begins with a #
            const own = item ?? `#${createHash("sha256").update(text).digest("hex")}`
            return wellFormed(name, { key: key(value), version: own, item: undefined })
          }),
        onFailure: (cause) =>
          Effect.fail(
            new ListingError({
              reason: "Unencodable",
              source: name,
              message: `${name}: an item of the listing does not fit the \`item\` codec.`,
              cause
            })
          )
      })
    },
    toItem: (entry) => {
      const text = version === undefined ? entry.version : entry.item
      return text === undefined ? Option.none() : Option.flatMap(parse(text), decode)
    }
  }
  const poll = (state: ListingState): Effect.Effect<Poll<A, ListingState>, E | ListingError, R> =>
    Effect.suspend(() => {
      if (state.kept.removing.length > 0) return Effect.succeed(release(settings, state))
      if ((state.walk?.pages ?? 0) >= maxPages) return Effect.fail(tooManyPages(name, maxPages))
      const token = state.walk?.token as T | undefined
      return Effect.flatMap(
        list(token, state.walk === undefined ? (state.validator as V | undefined) : undefined),
        (page): Effect.Effect<Poll<A, ListingState>, ListingError> => {
          if (!("items" in page)) return unchanged(name, state, page.validator)
          if (page.next !== undefined && leadsBack(page.next, state.walk)) return Effect.fail(noProgress(name))
          const entries = Effect.forEach(page.items, (item) =>
            Effect.map(settings.toEntry(item), (entry) => ({ entry, item }))
          )
          return Effect.map(entries, (entries) => takePage(settings, state, page, entries))
        }
      )
    })
  return {
    state: codec,
    initial,
    poll,
    durable: (state) => state.kept,
    restore,
    recover: recover(maxPageAttempts, isStaleToken),
    rewind: ({ kept }, lost) => restore({ ...kept, snapshot: forget(kept.snapshot, lost) }),
    plan: (state) => Option.fromNullable(state.kept.plan),
    approve: (state) => {
      const { kept, walk } = state
      if (kept.plan === undefined) return state
      // a key of the plan may have been seen in this walk already: its end decides
      if (walk !== undefined) return { ...state, approved: true }
      return restore({ ...kept, plan: undefined, removing: kept.plan.keys })
    }
  }
}

/**
 * Forgets the items of undelivered changes. A key that was reported before stays, with a version that no item has: if it
 * vanishes now, its removal must still be reported.
 */
const forget = (from: snapshot.Snapshot, lost: ReadonlyArray<Undelivered>): snapshot.Snapshot => {
  const unreported = new Set(lost.flatMap(({ _tag, key }) => (_tag === "Added" ? [key] : [])))
  const { removed, snapshot: rest } = snapshot.remove(from, new Set(lost.map(({ key }) => key)))
  const known = removed.filter(({ key }) => !unreported.has(key))
  const unknown = known.map(({ key }): snapshot.Entry => ({ key, version: "\u0000unknown", item: undefined }))
  return snapshot.merge(rest, [], unknown).snapshot
}

const isLonger = (text: string, bytes: number): boolean =>
  text.length > bytes || (text.length * 3 > bytes && new TextEncoder().encode(text).length > bytes)

/** A lone surrogate has no bytes to be saved as: two such keys would become one. */
const wellFormed = (source: string, entry: snapshot.Entry): Effect.Effect<snapshot.Entry, ListingError> =>
  /\p{Surrogate}/u.test(entry.key) || /\p{Surrogate}/u.test(entry.version)
    ? Effect.fail(
        new ListingError({
          reason: "Unencodable",
          source,
          message: `${source}: the key or version of ${JSON.stringify(entry.key)} is no well-formed Unicode text.`
        })
      )
    : Effect.succeed(entry)

const parse = Option.liftThrowable((text: string): unknown => JSON.parse(text))

/** Nothing to do, but that the validator may be another one. Without one before, the `list` is wrong. */
const unchanged = (
  source: string,
  state: ListingState,
  validator: unknown
): Effect.Effect<Poll<never, ListingState>> =>
  state.walk === undefined && state.validator !== undefined
    ? Effect.succeed({ changes: [], state: validator === undefined ? state : { ...state, validator } })
    : Effect.dieMessage(`${source}: \`list\` says Unchanged, but was given no validator.`)

/** Whether a token was there before: any circle of pages comes back to the mark. */
const leadsBack = (next: unknown, walk: Walk | undefined): boolean =>
  walk !== undefined && (sameToken(next, walk.token) || sameToken(next, walk.mark))

const sameToken = (a: unknown, b: unknown): boolean => a === b || JSON.stringify(a) === JSON.stringify(b)
