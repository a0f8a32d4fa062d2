/**
 * What was accepted, what was committed, and what a crash would leave: the delivery state machine as immutable values.
 *
 * Batches are numbered in the order of acceptance. The *prefix* is the largest number up to which every batch is committed;
 * only batches behind it may be forgotten, because a batch that overtook another comes again with it.
 */
import type * as Cause from "effect/Cause"
import type * as Change from "./Change.js"

/** The changes of one poll, cut into batches of at most `size`. */
export interface Group<B> {
  /** The number of its first batch. */
  readonly first: number
  readonly size: number
  /** `undefined`: it was accepted by an earlier run and can no longer be read; its place keeps the ids behind it. */
  readonly changes: ReadonlyArray<Change.Change<B> | undefined>
  readonly observedAt: number
  /** It was accepted by an earlier run. */
  readonly redelivered: boolean
  /** What this run knows of its changes beside: nothing of that is saved. */
  readonly known?: Known | undefined
}

/** What a poll has found out about its changes, by their index. */
export interface Known {
  /** What they are delivered as, where that is not the same. */
  readonly delivered?: ReadonlyArray<Change.Change<unknown> | undefined> | undefined
  /** What they are called, in a source that replays. */
  readonly nameOf?: ((index: number) => string) | undefined
  /** Why they cannot be delivered. */
  readonly errors?: ReadonlyMap<number, Cause.Cause<unknown>> | undefined
}

/** A change whose handler failed for good, put aside so that the others go on. */
export interface Parked<B> {
  readonly id: string
  readonly change: Change.Change<B>
  readonly error: string
  readonly observedAt: number
  readonly parkedAt: number
}

export interface Ledger<D, B> {
  readonly durable: D
  /** The first complete observation has been made. */
  readonly synced: boolean
  /** The number of the next batch. */
  readonly next: number
  readonly prefix: number
  /** Committed, but above the prefix; ascending. */
  readonly above: ReadonlyArray<number>
  /** Those that have a batch above the prefix, oldest first. */
  readonly groups: ReadonlyArray<Group<B>>
  /** Sources that replay: what becomes durable once the prefix reaches `n`; ascending. */
  readonly positions: ReadonlyArray<{ readonly n: number; readonly durable: D }>
  readonly parked: ReadonlyArray<Parked<B>>
}

export const make = <D, B>(durable: D): Ledger<D, B> => ({
  durable,
  synced: false,
  next: 1,
  prefix: 0,
  above: [],
  groups: [],
  positions: [],
  parked: []
})

const batchCount = (group: Group<unknown>): number => Math.ceil(group.changes.length / group.size)

export const lastOf = (group: Group<unknown>): number => group.first + batchCount(group) - 1

export interface Acceptance<D, B> {
  readonly changes: ReadonlyArray<Change.Change<B>>
  readonly size: number
  readonly observedAt: number
  readonly durable: D
  readonly synced: boolean
  /** Sources that replay: what is durable once the change of that index is committed. */
  readonly durableAfter: ((index: number) => D) | undefined
  readonly known?: Known | undefined
}

/** Takes in the changes of a poll, and with them the state that knows them. */
export const accept = <D, B>(ledger: Ledger<D, B>, acceptance: Acceptance<D, B>): Ledger<D, B> => {
  const { changes, durable, durableAfter, known, observedAt, size } = acceptance
  const fresh: Group<B> = { first: ledger.next, size, changes, observedAt, redelivered: false }
  const group = known === undefined ? fresh : { ...fresh, known }
  const last = lastOf(group)
  const grown = { ...ledger, synced: acceptance.synced, next: last + 1, groups: [...ledger.groups, group] }
  if (durableAfter === undefined) return { ...grown, durable }
  const positions = [...ledger.positions]
  for (let n = group.first; n < last; n++) {
    positions.push({ n, durable: durableAfter((n - group.first + 1) * size - 1) })
  }
  positions.push({ n: last, durable })
  return { ...grown, positions }
}

/** Takes in a poll without changes. */
export const advance = <D, B>(ledger: Ledger<D, B>, durable: D, synced: boolean): Ledger<D, B> => {
  const last = ledger.positions[ledger.positions.length - 1]
  if (last === undefined) {
    return durable === ledger.durable && synced === ledger.synced ? ledger : { ...ledger, durable, synced }
  }
  // what was read behind batches that are still out is durable once they are
  return { ...ledger, synced, positions: [...ledger.positions.slice(0, -1), { n: last.n, durable }] }
}

/** Marks batches as committed. The same ledger (`===`) means that they were already. */
export const commit = <D, B>(ledger: Ledger<D, B>, batches: Iterable<number>): Ledger<D, B> => {
  const marks = new Set(ledger.above)
  let { prefix } = ledger
  for (const n of batches) if (n > prefix && n < ledger.next) marks.add(n)
  if (marks.size === ledger.above.length) return ledger
  while (marks.delete(prefix + 1)) prefix++
  const above = [...marks].sort((a, b) => a - b)
  if (prefix === ledger.prefix) return { ...ledger, above }
  const reached = ledger.positions.filter((position) => position.n <= prefix)
  return {
    ...ledger,
    prefix,
    above,
    groups: ledger.groups.filter((group) => lastOf(group) > prefix),
    durable: reached.length === 0 ? ledger.durable : reached[reached.length - 1]!.durable,
    positions: reached.length === 0 ? ledger.positions : ledger.positions.slice(reached.length)
  }
}

/** Puts failed changes aside; a change that was delivered replaces the parked one of its key. */
export const park = <D, B>(
  ledger: Ledger<D, B>,
  delivered: ReadonlySet<string>,
  failed: ReadonlyArray<Parked<B>>
): Ledger<D, B> => {
  const kept = ledger.parked.filter((entry) => !delivered.has(entry.change.key))
  if (kept.length === ledger.parked.length && failed.length === 0) return ledger
  return { ...ledger, parked: [...kept, ...failed] }
}

/** Takes a parked change off the list. */
export const unpark = <D, B>(ledger: Ledger<D, B>, id: string): Ledger<D, B> => {
  const parked = ledger.parked.filter((entry) => entry.id !== id)
  return parked.length === ledger.parked.length ? ledger : { ...ledger, parked }
}

/** One batch to hand out. */
export interface Numbered<B> {
  readonly n: number
  readonly changes: ReadonlyArray<Change.Change<B> | undefined>
  readonly observedAt: number
  readonly redelivered: boolean
  /** By the index in the group, where `changes` begins at `from`. */
  readonly known: Known | undefined
  readonly from: number
}

const cut = <B>({ changes, first, known, observedAt, redelivered, size }: Group<B>, n: number): Numbered<B> => {
  const from = (n - first) * size
  return {
    n,
    changes: from === 0 && changes.length <= size ? changes : changes.slice(from, from + size),
    observedAt,
    redelivered,
    known,
    from
  }
}

/** Whether a batch is committed. */
export const isCommitted = (ledger: Ledger<unknown, unknown>, n: number): boolean =>
  n <= ledger.prefix || ledger.above.includes(n)

/** The changes of a batch above the prefix. */
export const changesOf = <D, B>(ledger: Ledger<D, B>, n: number): ReadonlyArray<Change.Change<B> | undefined> => {
  const group = ledger.groups.find((group) => group.first <= n && n <= lastOf(group))
  return group === undefined ? [] : cut(group, n).changes
}

/** The first batch behind `handed` that is not committed. */
export const nextBatch = <D, B>(ledger: Ledger<D, B>, handed: number): Numbered<B> | undefined => {
  for (const group of ledger.groups) {
    const last = lastOf(group)
    for (let n = Math.max(group.first, handed + 1, ledger.prefix + 1); n <= last; n++) {
      if (!ledger.above.includes(n)) return cut(group, n)
    }
  }
  return undefined
}

/** How many batches up to `handed` are not committed. */
export const inFlight = (ledger: Ledger<unknown, unknown>, handed: number): number =>
  Math.max(0, handed - ledger.prefix) - ledger.above.filter((n) => n <= handed).length

/** How many batches are not committed. */
export const uncommitted = (ledger: Ledger<unknown, unknown>): number => inFlight(ledger, ledger.next - 1)

/** What delivery decides by: replaceable, so that a test can plant a mistake and prove that it is caught. */
export interface Rules {
  /** The ledgers to save, one after the other, before a batch that was taken in is handed out. */
  readonly toAccept: <D, B>(before: Ledger<D, B>, accepted: Ledger<D, B>) => ReadonlyArray<Ledger<D, B>>
  readonly commit: <D, B>(ledger: Ledger<D, B>, batches: Iterable<number>) => Ledger<D, B>
  /** What of a ledger comes again after a crash. */
  readonly outbox: <D, B>(ledger: Ledger<D, B>) => ReadonlyArray<Group<B>>
}

export const rules: Rules = {
  toAccept: (_, accepted) => [accepted],
  commit,
  outbox: (ledger) => ledger.groups
}
