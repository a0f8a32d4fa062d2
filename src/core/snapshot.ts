/**
 * What a listing knows: a sorted set of keys with a version and perhaps an item each, in immutable packed blocks.
 *
 * Two snapshots share the blocks that did not change between them, so a next state costs what changed, and so does saving
 * it: a block's bytes are what a checkpoint stores.
 */
import type { Block, Entry } from "./block.js"
import * as block from "./block.js"
import type { Patch } from "./blockWriter.js"
import { patch, Writer } from "./blockWriter.js"
import type { Page, Versions } from "./page.js"
import * as pages from "./page.js"
import { compareKeys } from "./page.js"

export interface Snapshot {
  readonly blocks: ReadonlyArray<Block>
  readonly count: number
}

/** Of one block: all of it was seen, or one byte an entry, 1 if it was; `undefined`: a walk has seen nothing of it. */
type Marks = Uint8Array | true | undefined

/** What a walk has seen of each block of a snapshot. */
export type Seen = ReadonlyArray<Marks>

export const empty: Snapshot = { blocks: [], count: 0 }

// what is smaller is joined with a neighbour
const minEntries = 64

const of = (blocks: ReadonlyArray<Block>): Snapshot => {
  let count = 0
  for (const { count: entries } of blocks) count += entries
  return { blocks, count }
}

/** Puts a snapshot together from its blocks' bytes, of which it reads the heads; throws on bytes that are not blocks in order. */
export const fromBlocks = (parts: ReadonlyArray<Uint8Array>): Snapshot => {
  const blocks = parts.map(block.fromBytes)
  blocks.forEach(({ first }, index) => {
    if (index > 0 && compareKeys(blocks[index - 1]!.last, first) >= 0) {
      throw new Error("the blocks of a snapshot are out of order")
    }
  })
  return of(blocks)
}

export function* entries(snapshot: Snapshot): Generator<Entry> {
  for (const part of snapshot.blocks) yield* block.entries(part)
}

/** What a page did to an entry. `before` is the entry that it replaced. */
export interface Difference {
  /** Its place in the page. */
  readonly index: number
  readonly before: Entry | undefined
}

/** A block that is written anew, or none but a place before which new entries come. */
interface Edit {
  readonly at: number
  readonly old: Block | undefined
  /** The entries in order: of the block by their place, of the page by the complement of theirs. */
  readonly rows: Int32Array
  /** Of the entries of the block. */
  readonly marks: Uint8Array | undefined
  /** All that it does; undefined: entries come to the block. */
  readonly patches: ReadonlyArray<Patch> | undefined
}

/** A page compared with a snapshot, but not yet taken into it: the items of the differences may have to be encoded first. */
export interface Comparison {
  readonly snapshot: Snapshot
  readonly seen: Seen
  readonly page: Page
  /** Entries of the page that are new or have another version, in order. */
  readonly differences: ReadonlyArray<Difference>
  readonly edits: ReadonlyArray<Edit>
}

/** The first place from `from` whose value is not before, found by halving. */
const search = (from: number, to: number, isBefore: (index: number) => boolean): number => {
  let low = from
  let high = to
  while (low < high) {
    const middle = (low + high) >>> 1
    if (isBefore(middle)) low = middle + 1
    else high = middle
  }
  return low
}

interface Region {
  readonly at: number
  readonly block: Block
  /** The keys of the page up to the next block; those from `inner` to `behind` lie between the block's own. */
  readonly from: number
  readonly inner: number
  readonly behind: number
  readonly to: number
}

/** The blocks that keys fall on. */
function* regions({ blocks }: Snapshot, { keys, size }: Page): Generator<Region> {
  for (let from = 0, next = 0; from < size;) {
    const first = keys[from]!
    const at = Math.max(0, search(next, blocks.length, (index) => compareKeys(blocks[index]!.first, first) <= 0) - 1)
    const current = blocks[at]!
    const following = blocks[at + 1]?.first
    const isLast = following === undefined || compareKeys(keys[size - 1]!, following) < 0
    const to = isLast ? size : search(from, size, (index) => compareKeys(keys[index]!, following) < 0)
    const inner = search(from, to, (index) => compareKeys(keys[index]!, current.first) < 0)
    const behind = search(inner, to, (index) => compareKeys(keys[index]!, current.last) <= 0)
    yield { at, block: current, from, inner, behind, to }
    from = to
    next = at + 1
  }
}

const fresh = (at: number, from: number, to: number): Edit => {
  const rows = new Int32Array(to - from)
  for (let index = from; index < to; index++) rows[index - from] = ~index
  return { at, old: undefined, rows, marks: undefined, patches: undefined }
}

/** Compares a page with a snapshot, and marks its keys as seen. */
export const compare = (snapshot: Snapshot, seen: Seen, page: Page): Comparison => {
  const marks = snapshot.blocks.length === seen.length ? seen.slice() : snapshot.blocks.map((_, index) => seen[index])
  const differences: Array<Difference> = []
  const edits: Array<Edit> = []
  const add = (at: number, from: number, to: number): void => {
    for (let index = from; index < to; index++) differences.push({ index, before: undefined })
    if (to > from) edits.push(fresh(at, from, to))
  }
  if (snapshot.blocks.length === 0) add(0, 0, page.size)
  else
    for (const { at, behind, block: current, from, inner, to } of regions(snapshot, page)) {
      add(at, from, inner)
      if (inner < behind) compareBlock(at, current, page, inner, behind, marks, differences, edits)
      add(at + 1, behind, to)
    }
  return { snapshot, seen: marks, page, differences, edits }
}

/**
 * Of blocks that a part of a page was the same as, its digest: at rest, a listing is compared by these alone and no block is
 * unpacked. In memory only: the first walk after a start compares entry by entry.
 */
const digests = new WeakMap<Block, Buffer>()

const compareBlock = (
  at: number,
  current: Block,
  page: Page,
  from: number,
  to: number,
  seen: Array<Marks>,
  differences: Array<Difference>,
  edits: Array<Edit>
): void => {
  const isWhole = to - from === current.count
  const known = isWhole ? digests.get(current) : undefined
  const given = known === undefined ? undefined : pages.digest(page, from, to)
  if (known !== undefined && given?.equals(known) === true) {
    seen[at] = true
    return
  }
  const cursor = new block.Cursor(current)
  const before = seen[at]
  const marks =
    before === true ? new Uint8Array(current.count).fill(1) : (before?.slice() ?? new Uint8Array(current.count))
  const patches: Array<Patch> = []
  const found = differences.length
  let rows: Int32Array | undefined
  let items: block.Items | undefined
  let count = 0
  let next = 0
  // most blocks have no difference, and up to the first one the entries are those of the block
  const differ = (row: number): void => {
    if (rows === undefined) {
      rows = new Int32Array(current.count + to - from)
      for (let place = 0; place < count; place++) rows[place] = place
    }
    rows[count++] = row
  }
  block.merge(cursor, page, from, to, (where, index) => {
    if (where > 0) {
      differ(~index)
      differences.push({ index, before: undefined })
      return
    }
    const place = cursor.index
    next = place + 1
    if (where === 0) {
      // of a key that comes on two pages of one walk the first item stands, else a list at rest would change with each walk
      const isRepeated = marks[place] === 1
      marks[place] = 1
      if (!isRepeated && !block.isVersion(cursor, page, index)) {
        differ(~index)
        items ??= new block.Items(current)
        items.to(place)
        const key = page.keys[index]!
        patches.push({ place, start: cursor.version, end: cursor.end, page, index })
        differences.push({ index, before: { key, version: cursor.versionText(), item: items.text() } })
        return
      }
    }
    if (rows !== undefined) rows[count] = place
    count++
  })
  if (rows === undefined) {
    seen[at] = marks.includes(0) ? marks : true
    // no key is new, so as many keys as the block has are its keys; but of one that was seen before no version was compared
    if (isWhole && before === undefined) digests.set(current, given ?? pages.digest(page, from, to))
    return
  }
  while (next < current.count) rows[count++] = next++
  const isPatched = differences.length - found === patches.length
  edits.push({ at, old: current, rows: rows.subarray(0, count), marks, patches: isPatched ? patches : undefined })
}

/** Marks keys as seen, those that are known: whatever their versions are. */
export const see = (snapshot: Snapshot, seen: Seen, page: Page): Seen => {
  if (page.size === 0 || snapshot.blocks.length === 0) return seen
  const all = snapshot.blocks.map((_, index) => seen[index])
  for (const { at, behind, block: current, inner } of regions(snapshot, page)) {
    const before = all[at]
    if (before === true || inner === behind) continue
    const marks = before?.slice() ?? new Uint8Array(current.count)
    const cursor = new block.Cursor(current)
    block.merge(cursor, page, inner, behind, (where) => {
      if (where === 0) marks[cursor.index] = 1
    })
    all[at] = marks.includes(0) ? marks : true
  }
  return all
}

/** Takes a compared page into its snapshot. `itemOf` gives the item of a difference by its place in the page. */
export const apply = (
  { edits, page, seen, snapshot }: Comparison,
  kind: Versions,
  itemOf: (index: number) => string | undefined
): { readonly snapshot: Snapshot; readonly seen: Seen } => {
  if (edits.length === 0) return { snapshot, seen }
  const patched = edits.map((edit) => patchOf(edit, kind, itemOf))
  if (patched.every((written) => written !== undefined)) {
    // as many blocks as before
    const blocks = snapshot.blocks.slice()
    const marks = seen.slice()
    edits.forEach((edit, index) => {
      blocks[edit.at] = patched[index]!
      marks[edit.at] = marksOf(edit.rows, edit.marks)
    })
    return { snapshot: { blocks, count: snapshot.count }, seen: marks }
  }
  const next = new Assembly(snapshot, seen)
  edits.forEach(({ at, marks, old, rows }, index) => {
    next.until(at)
    let from = 0
    for (const written of patched[index] === undefined ? write(edits[index]!, page, kind, itemOf) : [patched[index]]) {
      const part = rows.subarray(from, (from += written.count))
      next.push(written, marksOf(part, marks))
    }
    if (old !== undefined) next.skip()
  })
  return next.end()
}

/** What an edited block keeps of versions: a fingerprint cannot be turned back. */
const kindOf = ({ old }: Edit, kind: Versions): Versions =>
  old !== undefined && block.versionsOf(old) === "fingerprints" ? "fingerprints" : kind

/** The block as a copy with other versions, where that is all. */
const patchOf = (edit: Edit, kind: Versions, itemOf: (index: number) => string | undefined): Block | undefined => {
  const { old, patches } = edit
  if (old === undefined || patches === undefined || kindOf(edit, kind) !== block.versionsOf(old)) return undefined
  return patch(old, patches, itemOf)
}

const write = (
  edit: Edit,
  page: Page,
  kind: Versions,
  itemOf: (index: number) => string | undefined
): ReadonlyArray<Block> => {
  const { old, rows } = edit
  const writer = new Writer(kindOf(edit, kind), evenly(rows.length))
  const cursor = old === undefined ? undefined : new block.Cursor(old)
  const items = old === undefined ? undefined : new block.Items(old)
  for (const row of rows) {
    if (row < 0) {
      writer.fresh(page, ~row, itemOf(~row))
    } else if (cursor !== undefined && items !== undefined) {
      while (cursor.index < row) cursor.next()
      writer.old(cursor, items)
    }
  }
  writer.flush()
  return writer.blocks
}

const marksOf = (rows: Int32Array, old: Uint8Array | undefined): Marks => {
  if (old === undefined) return true
  const marks = new Uint8Array(rows.length)
  for (let index = 0; index < rows.length; index++) marks[index] = rows[index]! < 0 ? 1 : old[rows[index]!]!
  return marks.includes(0) ? marks : true
}

/** So many entries a block that the last one is no crumb. */
const evenly = (count: number): number => Math.ceil(count / Math.max(1, Math.ceil(count / block.maxEntries)))

/** The blocks of a next snapshot: those of the one before, and new ones in between. */
class Assembly {
  private readonly blocks: Array<Block> = []
  private readonly marks: Array<Marks> = []
  private at = 0
  private isNew = false

  constructor(
    private readonly from: Snapshot,
    private readonly seen: Seen
  ) {}

  /** Takes over the blocks before that place. */
  until(at: number): void {
    while (this.at < at) {
      const index = this.at++
      this.put(this.from.blocks[index]!, this.seen[index], this.isNew)
      this.isNew = false
    }
  }

  /** Leaves out the next block. */
  skip(): void {
    this.at++
  }

  push(written: Block, marks: Marks): void {
    this.put(written, marks, true)
    this.isNew = true
  }

  private put(added: Block, marks: Marks, mayJoin: boolean): void {
    const last = this.blocks.length - 1
    const before = this.blocks[last]
    if (mayJoin && before !== undefined && isCrumb(before, added)) {
      this.blocks[last] = join(before, added)
      this.marks[last] = joinMarks(before, this.marks[last], added, marks)
    } else {
      this.blocks.push(added)
      this.marks.push(marks)
    }
  }

  end(): { readonly snapshot: Snapshot; readonly seen: Seen } {
    this.until(this.from.blocks.length)
    return { snapshot: of(this.blocks), seen: this.marks }
  }
}

const isCrumb = (a: Block, b: Block): boolean =>
  (a.count < minEntries || b.count < minEntries) &&
  a.count + b.count <= block.maxEntries &&
  a.bytes.length + b.bytes.length <= block.maxBytes &&
  block.versionsOf(a) === block.versionsOf(b)

const join = (...parts: ReadonlyArray<Block>): Block => {
  const writer = new Writer(block.versionsOf(parts[0]!), block.maxEntries + 1)
  for (const part of parts) {
    const cursor = new block.Cursor(part)
    const items = new block.Items(part)
    while (cursor.next()) writer.old(cursor, items)
  }
  writer.flush()
  return writer.blocks[0]!
}

const joinMarks = (a: Block, ofA: Marks, b: Block, ofB: Marks): Marks => {
  if (ofA === true && ofB === true) return true
  if (ofA === undefined && ofB === undefined) return undefined
  const marks = new Uint8Array(a.count + b.count)
  const set = (of: Marks, start: number, end: number): void => {
    if (of === true) marks.fill(1, start, end)
    else if (of !== undefined) marks.set(of, start)
  }
  set(ofA, 0, a.count)
  set(ofB, a.count, marks.length)
  return marks
}

/** Takes the keys of a page out of a snapshot. The removed entries come in key order. */
export const remove = (
  snapshot: Snapshot,
  page: Page
): { readonly snapshot: Snapshot; readonly removed: ReadonlyArray<Entry> } => {
  const removed: Array<Entry> = []
  const next = new Assembly(snapshot, [])
  if (snapshot.blocks.length > 0) {
    for (const { at, behind, block: current, inner } of regions(snapshot, page)) {
      if (inner === behind) continue
      const cursor = new block.Cursor(current)
      const items = new block.Items(current)
      const found = removed.length
      const writer = new Writer(block.versionsOf(current), block.maxEntries)
      let isOpen = block.merge(cursor, page, inner, behind, (where, index) => {
        if (where < 0) writer.old(cursor, items)
        if (where !== 0) return
        items.to(cursor.index)
        removed.push({ key: page.keys[index]!, version: cursor.versionText(), item: items.text() })
      })
      if (removed.length === found) continue
      for (; isOpen; isOpen = cursor.next()) writer.old(cursor, items)
      writer.flush()
      next.until(at)
      for (const written of writer.blocks) next.push(written, undefined)
      next.skip()
    }
  }
  return removed.length === 0 ? { snapshot, removed } : { snapshot: next.end().snapshot, removed }
}
