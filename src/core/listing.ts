/**
 * The walk of a listing, page by page: what each page changes, when a walk is complete, and which removals it proves.
 *
 * One page is one poll. The snapshot is durable, the walk lives in memory only: after a crash it starts over, and what its
 * pages had delivered is in the snapshot already.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Change from "./Change.js"
import type { Definition, Poll, Undelivered } from "./definition.js"
import { itemTexts, type ItemTexts } from "./itemTexts.js"
import type { KeySet } from "./keySet.js"
import * as keySet from "./keySet.js"
import type { ListingOptions, ListPage } from "./listingOptions.js"
import { ListingError } from "./listingOptions.js"
import type { Held, Kept, ListingState, Walk } from "./listingState.js"
import { codec, HeldPlan, initial, none, restore } from "./listingState.js"
import type { Page, Versions } from "./page.js"
import * as page from "./page.js"
import type { Guard } from "./removalGuard.js"
import * as removalGuard from "./removalGuard.js"
import * as slices from "./slices.js"
import * as snapshot from "./snapshot.js"

const maxRelease = 1000

interface Settings<A> extends ItemTexts<A> {
  readonly name: string
  readonly guard: Guard | undefined
  readonly confirmRemovals: (pages: number) => number
  readonly key: (item: A) => string
}

/** Reports the next released removals. */
const release = <A>(settings: Settings<A>, { closing, kept }: ListingState): Poll<A, ListingState> => {
  const { first, rest: removing } = keySet.take(kept.removing, maxRelease)
  const cut = snapshot.remove(kept.snapshot, page.ofKeys(first))
  const isLast = removing.count === 0
  const known = isLast && kept.plan === undefined ? cut.snapshot.count : kept.known
  return {
    changes: cut.removed.map((entry) => Change.removed(entry.key, settings.toItem(entry))),
    state: {
      ...restore({ ...kept, snapshot: cut.snapshot, known, removing }),
      closing: closing && !isLast
    },
    more: !isLast || !closing
  }
}

/** The keys that a walk misses, as far as the plan held before has them, and the rest. */
interface Missed {
  readonly all: KeySet
  readonly planned: KeySet
  readonly rest: KeySet
}

const missedBy = (after: Walked, plan: HeldPlan | undefined): Effect.Effect<Missed> => {
  if (keySet.countUnseen(after.snapshot, after.seen) === 0) {
    return Effect.succeed({ all: keySet.empty, planned: keySet.empty, rest: keySet.empty })
  }
  return Effect.flatMap(slices.run(keySet.unseen(after.snapshot, after.seen)), (all) =>
    plan === undefined
      ? Effect.succeed({ all, planned: all, rest: keySet.empty })
      : Effect.map(slices.run(keySet.split(all, plan.set)), ({ both, rest }) => ({ all, planned: both, rest }))
  )
}

/** A snapshot after a page, and what the walk has seen of it. */
interface Walked {
  readonly snapshot: snapshot.Snapshot
  readonly seen: snapshot.Seen
}

/** Ends a walk: which keys it proves to be gone, which are held back. */
const finish = <A>(
  settings: Settings<A>,
  { approved, kept, walk }: ListingState,
  held: Held,
  after: Walked,
  missing: Missed,
  validator: unknown
): Omit<Poll<A, ListingState>, "changes"> => {
  const { guard } = settings
  const pages = (walk?.pages ?? 0) + 1
  // before the first complete walk there is no count: then what earlier walks began with stands for it
  const expected = kept.known === 0 ? after.snapshot.count : kept.known
  // what was approved are the keys of the plan: where all of them were seen again, nothing is
  const isApproved = approved && held.plan !== undefined
  const decision = removalGuard.decide(
    guard,
    missing.all.count,
    missing.planned.count,
    expected,
    held.plan?.listings ?? 0,
    isApproved
  )
  const sets = { ...missing, none: keySet.empty }
  const holding = sets[decision.hold]
  const plan =
    guard === undefined || holding.count === 0
      ? undefined
      : new HeldPlan(holding, decision.listings, guard.confirmListings)
  const { missed, removing } = confirm(
    settings.confirmRemovals(pages),
    missing.all,
    sets[decision.release],
    held,
    approved
  )
  const believed = plan === undefined && removing.count === 0
  const known = believed ? after.snapshot.count : kept.known
  const nothingHeld = kept.plan === undefined && kept.missed.size === 0 && missed.size === 0
  const same = believed && nothingHeld && known === kept.known && after.snapshot === kept.snapshot
  return {
    state: {
      ...restore(same ? kept : { snapshot: after.snapshot, known, plan, missed, removing }),
      closing: removing.count > 0,
      validator: pages === 1 && missing.all.count === 0 ? validator : undefined
    },
    more: removing.count > 0,
    save: plan !== kept.plan || held.missed !== kept.missed
  }
}

/** Of what the guard releases, what enough walks have missed. */
const confirm = (
  walks: number,
  missing: KeySet,
  released: KeySet,
  held: Held,
  approved: boolean
): Pick<Kept, "missed" | "removing"> => {
  if (walks <= 1) return { missed: none, removing: released }
  const missed = new Map(keySet.texts(missing).map((key) => [key, (held.missed.get(key) ?? 0) + 1]))
  const byHand = new Set(approved ? held.plan?.keys : [])
  const removing = keySet.texts(released).filter((key) => byHand.has(key) || (missed.get(key) ?? 1) >= walks)
  for (const key of removing) missed.delete(key)
  return { missed, removing: keySet.of(removing) }
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

/** A key that is seen is held back no longer, also when its walk is cut short: it was not missed in a row. */
const withoutSeen = ({ missed, plan }: Held, shown: Page): Held => {
  if (plan === undefined && missed.size === 0) return { plan, missed }
  const set = plan === undefined ? keySet.empty : keySet.without(plan.set, shown)
  const still = new Map(missed)
  for (const key of shown.keys) still.delete(key)
  return {
    plan:
      plan === undefined || set.count === plan.count
        ? plan
        : set.count === 0
          ? undefined
          : new HeldPlan(set, plan.listings, plan.confirmListings),
    missed: still.size === missed.size ? missed : still
  }
}

/** Compares a page with what is known, and encodes what is new in it. */
const takeIn = <A>(
  settings: Settings<A>,
  kept: Kept,
  seen: snapshot.Seen,
  { items, present = [] }: ListPage<A, unknown, unknown>
): Effect.Effect<
  Walked & { readonly shown: Page; readonly hidden: Page; readonly changes: ReadonlyArray<Change.Change<A>> },
  ListingError
> =>
  Effect.suspend(() => {
    const keys = items.map(settings.key)
    return Effect.flatMap(settings.versionsOf(items), (versions) => {
      const shown = page.make(keys, versions)
      if ("illFormed" in shown) return Effect.fail(illFormed(settings.name, keys[shown.illFormed]!))
      const hidden = page.make(
        present,
        present.map(() => "")
      )
      if ("illFormed" in hidden) return Effect.fail(illFormed(settings.name, present[hidden.illFormed]!))
      const compared = snapshot.compare(kept.snapshot, seen, shown)
      const { differences } = compared
      const found = differences.map(({ index }) => items[page.originOf(shown, index)]!)
      return Effect.map(settings.textsOf(found), (texts) => {
        const byIndex = new Map(differences.map(({ index }, place) => [index, texts[place]]))
        const changes = differences.map(({ before, index }, place): Change.Change<A> => {
          const key = shown.keys[index]!
          return before === undefined
            ? Change.added(key, found[place]!)
            : Change.modified(key, found[place]!, settings.toItem(before))
        })
        const after = snapshot.apply(compared, settings.versions, (index) => byIndex.get(index))
        return {
          snapshot: after.snapshot,
          seen: snapshot.see(after.snapshot, after.seen, hidden),
          shown,
          hidden,
          changes
        }
      })
    })
  })

const takePage = <A, T, V>(
  settings: Settings<A>,
  state: ListingState,
  listed: ListPage<A, T, V>
): Effect.Effect<Poll<A, ListingState>, ListingError> => {
  const { kept, walk } = state
  return Effect.flatMap(takeIn(settings, kept, walk?.seen ?? [], listed), ({ changes, hidden, shown, ...after }) => {
    const held = withoutSeen(withoutSeen(kept, shown), hidden)
    if (listed.next === undefined) {
      return Effect.map(missedBy(after, held.plan), (missing) => ({
        changes,
        ...finish(settings, state, held, after, missing, listed.validator)
      }))
    }
    const pages = (walk?.pages ?? 0) + 1
    const same = after.snapshot === kept.snapshot && held.plan === kept.plan && held.missed === kept.missed
    return Effect.succeed({
      changes,
      state: {
        ...state,
        kept: same ? kept : { ...kept, ...held, snapshot: after.snapshot },
        walk: {
          token: listed.next,
          mark: (pages & (pages - 1)) === 0 ? listed.next : walk?.mark,
          pages,
          failures: 0,
          seen: after.seen
        },
        closing: false,
        validator: undefined
      },
      more: true,
      save: held.plan !== kept.plan || held.missed !== kept.missed
    })
  })
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
  const { isStaleToken, key, list, name, version } = options
  const maxPages = positiveInteger("maxPages", options.maxPages ?? 100_000)
  const maxPageAttempts = positiveInteger("maxPageAttempts", options.maxPageAttempts ?? 5)
  const maxPreviousBytes = options.maxPreviousBytes ?? 1024 * 1024
  if (!(maxPreviousBytes >= 0)) {
    throw new Error(`Source.fromListing: \`maxPreviousBytes\` is ${maxPreviousBytes}; it must be 0 or more.`)
  }
  const { confirmRemovals = 1 } = options
  if (typeof confirmRemovals === "number") positiveInteger("confirmRemovals", confirmRemovals)
  if (options.text !== undefined && version === undefined) {
    throw new Error(
      "Source.fromListing: `text` is given without `version`; without one the encoded item is the version."
    )
  }
  const settings: Settings<A> = {
    name,
    guard: removalGuard.make(options.removalGuard),
    confirmRemovals: (pages) =>
      positiveInteger(
        "confirmRemovals",
        typeof confirmRemovals === "number" ? confirmRemovals : confirmRemovals(pages)
      ),
    key,
    ...itemTexts(options, maxPreviousBytes)
  }
  const poll = (state: ListingState): Effect.Effect<Poll<A, ListingState>, E | ListingError, R> =>
    Effect.suspend(() => {
      if (state.kept.removing.count > 0) return Effect.succeed(release(settings, state))
      if ((state.walk?.pages ?? 0) >= maxPages) return Effect.fail(tooManyPages(name, maxPages))
      const token = state.walk?.token as T | undefined
      return Effect.flatMap(
        list(token, state.walk === undefined ? (state.validator as V | undefined) : undefined),
        (listed): Effect.Effect<Poll<A, ListingState>, ListingError> => {
          if (!("items" in listed)) return unchanged(name, state, listed.validator)
          if (listed.next !== undefined && leadsBack(listed.next, state.walk)) return Effect.fail(noProgress(name))
          return takePage(settings, state, listed)
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
    rewind: ({ kept }, lost) => restore({ ...kept, snapshot: forget(kept.snapshot, lost, settings.versions) }),
    plan: (state) => Option.fromNullable(state.kept.plan),
    approve: (state) => {
      const { kept, walk } = state
      if (kept.plan === undefined) return state
      // a key of the plan may have been seen in this walk already: its end decides
      if (walk !== undefined) return { ...state, approved: true }
      return restore({ ...kept, plan: undefined, removing: kept.plan.set })
    }
  }
}

/**
 * Forgets the items of undelivered changes. A key that was reported before stays, with a version that no item has: if it
 * vanishes now, its removal must still be reported.
 */
const forget = (from: snapshot.Snapshot, lost: ReadonlyArray<Undelivered>, versions: Versions): snapshot.Snapshot => {
  const unreported = new Set(lost.flatMap(({ _tag, key }) => (_tag === "Added" ? [key] : [])))
  const keys = [...new Set(lost.map(({ key }) => key))].sort(page.compareKeys)
  const { removed, snapshot: rest } = snapshot.remove(from, page.ofKeys(keys))
  const known = removed.flatMap(({ key }) => (unreported.has(key) ? [] : [key]))
  const unknown = snapshot.compare(rest, [], page.ofKeys(known, "\u0000unknown"))
  return snapshot.apply(unknown, versions, () => undefined).snapshot
}

const illFormed = (source: string, key: string): ListingError =>
  new ListingError({
    reason: "Unencodable",
    source,
    message: `${source}: the key or version of ${JSON.stringify(key)} is no well-formed Unicode text.`
  })

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
