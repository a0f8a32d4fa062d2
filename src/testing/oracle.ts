/**
 * Judges what a consumer was handed against what happened to the world: the delivery contract, as plain code that knows
 * nothing of how delivery works.
 *
 * A position is a batch number; for a log, the row's place in it. A position is settled once it and all before it are
 * committed; it may be missing after a crash only if it and all before it were at least being committed.
 */
import * as Option from "effect/Option"
import type * as Change from "../core/Change.js"
import { valueText } from "./valueText.js"

export type Mode = "document" | "listing" | "log"

/** What was handed out, seen from outside. */
export interface Handed<A> {
  /** The number of the batch, where it is known. */
  readonly n: number | undefined
  readonly id: string
  readonly change: Change.Change<A>
  readonly redelivered: boolean
}

interface First {
  readonly position: number
  readonly text: string
  readonly key: string
}

const absent = undefined

export class Broken {
  constructor(readonly rule: string) {}
}

export const textOfChange = (change: Change.Change<unknown>): string => {
  const previous = change._tag === "Added" ? "" : ` from ${valueText(Option.getOrUndefined(change.previous))}`
  return `${change._tag} ${change.key}${change._tag === "Removed" ? "" : ` ${valueText(change.value)}`}${previous}`
}

export class Oracle<A> {
  broken: Broken | undefined
  /** What the world was, revision by revision. */
  private readonly history: Array<ReadonlyMap<string, string>> = []
  /** What a consumer knows that applies what it is handed. */
  private readonly view = new Map<string, string>()
  private readonly firsts = new Map<string, First>()
  /** By key: the revision that its last change shows, and whether it was a removal. */
  private readonly shown = new Map<string, { readonly revision: number; readonly text: string | undefined }>()
  private readonly handedOut = new Set<number>()
  private readonly ofThisLife = new Set<number>()
  private readonly attempted = new Set<number>()
  private readonly committed = new Set<number>()
  private prefix: number | undefined
  /** The last position that this life was handed. */
  private last: number | undefined
  private isFresh = true
  /** Parked changes that this life was asked to hand out once more. */
  private readonly redriven = new Set<string>()
  /** Complete observations: from and to which revision they looked. */
  private readonly observations: Array<readonly [from: number, to: number]> = []
  private observingFrom: number | undefined
  private pollFrom = 0
  /** Complete observations that may have become the baseline, and the revision when it was clear to the watcher. */
  private readonly baselines: Array<readonly [from: number, to: number]> = []
  private isSynced = false
  /** The subject tells its observations itself. */
  private isTold = false
  private syncedAt: number | undefined
  /** Up to which row a log was ever read. */
  private readTo = 0
  redeliveries = 0

  constructor(
    private readonly mode: Mode,
    private readonly suppress: boolean,
    current: ReadonlyMap<string, A>,
    /** Which rows of a log may be put aside before they are handed out. */
    private readonly isPoison: (key: string) => boolean = () => false
  ) {
    this.changed(current)
  }

  get revision(): number {
    return this.history.length - 1
  }

  private fail(rule: string): void {
    this.broken ??= new Broken(rule)
  }

  // ---------------------------------------------------------------- the world

  changed(current: ReadonlyMap<string, A>): void {
    this.history.push(new Map(Array.from(current, ([key, value]) => [key, valueText(value)])))
  }

  /** A person has looked: what is absent now may be removed. */
  looked(): void {
    this.observations.push([this.revision, this.revision])
  }

  isAbsent(key: string): boolean {
    return !this.history[this.revision]!.has(key)
  }

  // ---------------------------------------------------------------- polls

  pollBegan(): void {
    this.pollFrom = this.revision
    this.observingFrom ??= this.revision
  }

  pollEnded(isComplete: boolean): void {
    const observation = [this.observingFrom ?? this.pollFrom, this.revision] as const
    // a walk can be complete without the poll that says so: the removals that it proved come first, and a crash between
    if (!this.isTold) this.observations.push(observation)
    if (!isComplete) return
    if (!this.hasBaseline) this.baselines.push(observation)
    this.observingFrom = undefined
  }

  /** Rows of a log were read; if there are no more, none that was there at the begin is left. */
  read(changes: ReadonlyArray<Change.Change<unknown>>, isComplete: boolean): void {
    const last = changes[changes.length - 1]
    if (last !== undefined) this.readTo = Math.max(this.readTo, this.placeOf(last.key) ?? 0)
    const { size } = this.history[this.pollFrom]!
    if (isComplete && this.readTo < size) {
      this.fail(`a poll said that there is no more at row ${this.readTo}, and row ${size} was there`)
    }
  }

  /** A log is read from behind its last row on. */
  skipped(): void {
    this.readTo = Math.max(this.readTo, this.history[this.pollFrom]!.size)
  }

  /** A complete observation, told by the subject. */
  observed(from: number, to: number): void {
    this.isTold = true
    this.observations.push([from, to])
  }

  /** Whether the watcher knows that its first complete observation was saved. */
  get hasBaseline(): boolean {
    return this.syncedAt !== undefined
  }

  saved(head: string, isAnswered: boolean): void {
    if (this.syncedAt !== undefined || !head.includes('"synced":true')) return
    this.isSynced = true
    // a save whose answer is lost is one more observation: the watcher starts its baseline over
    if (isAnswered) this.syncedAt = this.revision
  }

  // ---------------------------------------------------------------- lives

  began(): void {
    this.isFresh = true
    if (this.isSynced) this.syncedAt ??= this.revision
    this.ofThisLife.clear()
    this.redriven.clear()
    this.last = undefined
    this.observingFrom = undefined
    // a commit above the prefix does not outlive its process
    const { prefix = 0 } = this
    for (const position of this.committed) if (position > prefix) this.committed.delete(position)
  }

  // ---------------------------------------------------------------- delivery

  private positionOf({ change, n }: Handed<A>): number | undefined {
    if (this.mode !== "log") return n
    const place = this.placeOf(change.key)
    if (place === undefined) this.fail(`a row was delivered that is not in the log: ${change.key}`)
    return place
  }

  private placeOf(row: string): number | undefined {
    let place = 1
    for (const key of this.history[this.revision]!.keys()) {
      if (key === row) return place
      place++
    }
    return undefined
  }

  /** The last position in front of another that must have been delivered: rows in between may be put aside, and not for good yet. */
  private previousOf(position: number): number {
    if (this.mode !== "log") return position - 1
    const rows = [...this.history[this.revision]!.keys()].slice(0, position - 1)
    return rows.findLastIndex((key) => !this.isPoison(key)) + 1
  }

  /** The first row behind a position that must be delivered, not put aside. */
  private nextOf(position: number): number {
    if (this.mode !== "log") return position + 1
    let place = 0
    for (const key of this.history[this.revision]!.keys()) {
      if (++place > position && !this.isPoison(key)) return place
    }
    return place + 1
  }

  /** A change was handed out. Gives its position. */
  handed(handed: Handed<A>): number {
    const { change, id, redelivered } = handed
    const text = textOfChange(change)
    const first = this.firsts.get(id)
    if (this.redriven.delete(id)) {
      if (first === undefined && this.isPoison(change.key)) {
        this.firsts.set(id, { position: this.placeOf(change.key) ?? 0, text, key: change.key })
        this.firstTime(change, id)
      } else if (first?.text !== text) this.fail(`${id} was parked as "${first?.text}" and came again as "${text}"`)
      else this.notReplaced(first, id)
      return -1
    }
    const position = this.positionOf(handed)
    if (position === undefined) return -1
    this.inOrder(position, id)
    if (first === undefined) {
      this.firsts.set(id, { position, text, key: change.key })
      this.firstTime(change, id)
    } else {
      this.redeliveries++
      if (first.text !== text) this.fail(`${id} was first "${first.text}", then "${text}"`)
      // a log is read again, and nothing is kept of what was handed out
      if (!redelivered && this.mode !== "log") this.fail(`${id} came again and does not say so`)
    }
    this.handedOut.add(position)
    this.ofThisLife.add(position)
    this.attempted.delete(position)
    return position
  }

  private inOrder(position: number, id: string): void {
    const { last } = this
    if (position <= (this.prefix ?? 0)) this.fail(`${id} came again although all up to it was committed`)
    if (this.isFresh) {
      this.isFresh = false
      for (const missing of this.handedOut) {
        if (missing < position && missing > (this.prefix ?? 0) && !this.attempted.has(missing)) {
          this.fail(`position ${missing} was handed out, never committed, and does not come again before ${id}`)
        }
      }
      const before = this.previousOf(position)
      this.prefix = Math.max(this.prefix ?? before, before)
    } else if (last !== undefined && (position < last || (this.mode === "log" && position > this.nextOf(last)))) {
      this.fail(`${id} (position ${position}) was handed out behind position ${last}`)
    }
    this.last = position
  }

  /** Whether some revision from `from` on, within what was looked at, shows this. */
  private firstRevision(key: string, text: string | undefined, from: number): number | undefined {
    for (let revision = from; revision < this.history.length; revision++) {
      if (this.history[revision]!.get(key) === text) {
        if (text !== absent || this.wasLookedAt(revision)) return revision
      }
    }
    return undefined
  }

  private wasLookedAt(revision: number): boolean {
    return this.observations.some(([from, to]) => from <= revision && revision <= to)
  }

  private firstTime(change: Change.Change<A>, id: string): void {
    const { key } = change
    const text = change._tag === "Removed" ? absent : valueText(change.value)
    const shown = this.shown.get(key)
    const revision = this.firstRevision(key, text, shown?.revision ?? 0)
    if (revision === undefined) {
      this.fail(
        text === absent
          ? `${id}: a false Removed: ${key} was there throughout every observation since its last change`
          : `${id}: ${text} of ${key} is no value that it had since its last change`
      )
      return
    }
    if (shown !== undefined && shown.revision === revision && shown.text === text && this.mode !== "log") {
      this.fail(`${id}: ${key} was delivered as ${text} before, and did not change`)
    }
    if (shown === undefined && this.suppress) this.notOfTheBaseline(key, text, id)
    if (!this.suppress) {
      const isKnown = shown !== undefined && shown.text !== absent
      if (isKnown === (change._tag === "Added"))
        this.fail(`${id}: ${change._tag} of ${key}, which was ${isKnown ? "" : "not "}known`)
    }
    this.shown.set(key, { revision, text })
  }

  private notOfTheBaseline(key: string, text: string | undefined, id: string): void {
    if (!this.isSynced) this.fail(`${id} was delivered before the baseline was saved`)
    for (const [from, to] of this.baselines) {
      for (let revision = from; revision <= to; revision++) {
        if (this.history[revision]!.get(key) !== text) return
      }
    }
    this.fail(`${id}: ${key} was ${text} throughout the baseline, and was delivered`)
  }

  /** The handler is done with a change. */
  handled(change: Change.Change<A>): void {
    if (change._tag === "Removed") this.view.delete(change.key)
    else this.view.set(change.key, valueText(change.value))
  }

  // ---------------------------------------------------------------- parked changes

  areParked(ids: ReadonlyArray<string>): void {
    const twice = ids.find((id, index) => ids.indexOf(id) < index)
    if (twice !== undefined) this.fail(`${twice} is parked twice`)
  }

  redriving(id: string): void {
    this.redriven.add(id)
  }

  /** A committed change takes the place of an older parked one of its key. */
  private notReplaced(parked: First, id: string): void {
    for (const [newer, { key, position }] of this.firsts) {
      if (key === parked.key && position > parked.position && position <= (this.prefix ?? 0)) {
        this.fail(`${id} was parked, and came again behind ${newer}, which is newer and committed`)
      }
    }
  }

  // ---------------------------------------------------------------- commits

  attempting(positions: Iterable<number>): void {
    for (const position of positions) this.attempted.add(position)
  }

  committing(positions: Iterable<number>): void {
    for (const position of positions) {
      this.attempted.add(position)
      this.committed.add(position)
    }
    let prefix = this.prefix ?? 0
    for (let next = prefix + 1; ; next++) {
      if (!this.committed.has(next)) next = this.nextOf(next - 1)
      if (!this.committed.has(next)) break
      prefix = next
    }
    if (this.prefix !== undefined || prefix > 0) this.prefix = prefix
  }

  /** Whether this life has committed all that it was handed; what was handed out before comes first in it. */
  get isSettled(): boolean {
    for (const position of this.ofThisLife) {
      if (position > (this.prefix ?? 0) && !this.committed.has(position)) return false
    }
    return true
  }

  /** Batches that a crash would hand out again. */
  get outbox(): number {
    return this.last === undefined ? 0 : this.last - (this.prefix ?? 0)
  }

  // ---------------------------------------------------------------- the end

  /** The world rests, everything was polled and committed: the consumer must know what is there. */
  finish(): void {
    const current = this.history[this.revision]!
    for (const position of this.handedOut) {
      if (!this.attempted.has(position)) this.fail(`position ${position} was handed out, and never committed`)
    }
    for (const key of new Set([...current.keys(), ...this.view.keys()])) {
      const expected = current.get(key)
      const known = this.view.get(key)
      if (known === expected && !(known === absent && !this.shown.has(key))) continue
      if (this.shown.has(key) ? known !== expected : !this.wasBaseline(key, expected)) {
        this.fail(`lost: ${key} is ${expected ?? "gone"}, and the consumer was told ${known ?? "nothing of it"}`)
      }
    }
  }

  private wasBaseline(key: string, text: string | undefined): boolean {
    if (!this.suppress || this.syncedAt === undefined) return false
    for (let revision = 0; revision <= this.syncedAt; revision++) {
      if (this.history[revision]!.get(key) === text) return true
    }
    return false
  }
}
