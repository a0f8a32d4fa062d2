/**
 * Sorted sets of keys in packed blocks: removals that are held back may be hundreds of thousands.
 *
 * What goes through many blocks is a generator that pauses after each, so that its caller can let others run.
 */
import type { Block } from "./block.js"
import * as block from "./block.js"
import { Writer } from "./blockWriter.js"
import type { Page } from "./page.js"
import * as page from "./page.js"
import type { Seen, Snapshot } from "./snapshot.js"
import * as snapshot from "./snapshot.js"

/** Its blocks keep neither versions nor items. */
export type KeySet = Snapshot

export const empty: KeySet = snapshot.empty

/** Writes keys that come in order. */
class Builder {
  private readonly writer = new Writer("none", block.maxEntries)
  private count = 0

  add(cursor: block.Cursor): void {
    this.count++
    this.writer.old(cursor)
  }

  end(): KeySet {
    this.writer.flush()
    return this.count === 0 ? empty : { blocks: this.writer.blocks, count: this.count }
  }
}

/** The set of keys that come in order. */
export const of = (keys: ReadonlyArray<string>): KeySet =>
  snapshot.apply(snapshot.compare(empty, [], page.ofKeys(keys)), "none", () => undefined).snapshot

/** How many keys a walk has not seen. */
export const countUnseen = ({ blocks }: Snapshot, seen: Seen): number => {
  let count = 0
  for (let index = 0; index < blocks.length; index++) {
    const marks = seen[index]
    if (marks === true) continue
    if (marks === undefined) count += blocks[index]!.count
    else for (const mark of marks) count += 1 - mark
  }
  return count
}

/** The keys that a walk has not seen. */
export function* unseen({ blocks }: Snapshot, seen: Seen): Generator<void, KeySet> {
  const found = new Builder()
  for (let index = 0; index < blocks.length; index++) {
    const marks = seen[index]
    if (marks === true) continue
    const cursor = new block.Cursor(blocks[index]!)
    while (cursor.next()) if (marks === undefined || marks[cursor.index] === 0) found.add(cursor)
    yield
  }
  return found.end()
}

/** Goes on from block to block. */
class Walk {
  cursor: block.Cursor | undefined
  private next = 0
  constructor(private readonly blocks: ReadonlyArray<Block>) {
    this.step()
  }

  /** True: a block has ended. */
  step(): boolean {
    if (this.cursor?.next() === true) return false
    const following = this.blocks[this.next++]
    this.cursor = following === undefined ? undefined : new block.Cursor(following)
    this.cursor?.next()
    return true
  }
}

const compareKeys = (a: block.Cursor, b: block.Cursor): number => {
  const length = Math.min(a.length, b.length)
  for (let index = 0; index < length; index++) {
    const order = a.key[index]! - b.key[index]!
    if (order !== 0) return order
  }
  return a.length - b.length
}

/** Parts a set: the keys that are in another one, and the rest. */
export function* split(keys: KeySet, by: KeySet): Generator<void, { readonly both: KeySet; readonly rest: KeySet }> {
  const both = new Builder()
  const rest = new Builder()
  const left = new Walk(keys.blocks)
  const right = new Walk(by.blocks)
  while (left.cursor !== undefined) {
    const order = right.cursor === undefined ? -1 : compareKeys(left.cursor, right.cursor)
    if (order <= 0) (order === 0 ? both : rest).add(left.cursor)
    const leftEnded = order <= 0 && left.step()
    const rightEnded = order >= 0 && right.step()
    if (leftEnded || rightEnded) yield
  }
  return { both: both.end(), rest: rest.end() }
}

/** The keys of a set that a page does not show. The same set (`===`): it shows none. */
export const without = (keys: KeySet, shown: Page): KeySet => snapshot.remove(keys, shown).snapshot

/** Parts a set: its first keys, and the rest. */
export const take = (
  { blocks, count }: KeySet,
  size: number
): { readonly first: ReadonlyArray<string>; readonly rest: KeySet } => {
  const first: Array<string> = []
  let index = 0
  for (; index < blocks.length && first.length + blocks[index]!.count <= size; index++) {
    const cursor = new block.Cursor(blocks[index]!)
    while (cursor.next()) first.push(cursor.keyText())
  }
  if (index === blocks.length || first.length === size) {
    return { first, rest: { blocks: blocks.slice(index), count: count - first.length } }
  }
  const others = new Builder()
  const cursor = new block.Cursor(blocks[index]!)
  while (cursor.next()) {
    if (first.length < size) first.push(cursor.keyText())
    else others.add(cursor)
  }
  return {
    first,
    rest: { blocks: [...others.end().blocks, ...blocks.slice(index + 1)], count: count - first.length }
  }
}

/** The keys as texts. */
export const texts = ({ blocks }: KeySet): ReadonlyArray<string> => {
  const keys: Array<string> = []
  for (const part of blocks) {
    const cursor = new block.Cursor(part)
    while (cursor.next()) keys.push(cursor.keyText())
  }
  return keys
}
