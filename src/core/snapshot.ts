/**
 * What a listing knows: a sorted set of (key, version, item text) in immutable packed blocks.
 *
 * Two snapshots share the blocks that did not change between them, so a next state costs what changed, and so does saving
 * it: a block's bytes are what a checkpoint stores.
 */

export interface Entry {
  readonly key: string
  readonly version: string
  /** The encoded item, where it is kept. */
  readonly item: string | undefined
}

export interface Block {
  readonly bytes: Uint8Array
  readonly count: number
  readonly first: string
}

export interface Snapshot {
  readonly blocks: ReadonlyArray<Block>
  readonly count: number
}

/** For each block of a snapshot one byte an entry: 1 if a walk has seen it; `undefined`: it has seen none of the block. */
export type Seen = ReadonlyArray<Uint8Array | undefined>

export const empty: Snapshot = { blocks: [], count: 0 }

const maxEntries = 256
const maxBytes = 64 * 1024
const minEntries = 32

/**
 * Orders keys by code point, which is the order of their UTF-8 bytes. JavaScript's `<` puts U+E000 to U+FFFF behind the
 * astral planes.
 */
export const compareKeys = (a: string, b: string): number => {
  if (a === b) return 0
  const length = Math.min(a.length, b.length)
  for (let index = 0; index < length; index++) {
    const left = a.charCodeAt(index)
    const right = b.charCodeAt(index)
    if (left !== right) return rank(left) - rank(right)
  }
  return a.length - b.length
}

// surrogates stand for code points above all others
const rank = (unit: number): number => (unit < 0xd800 ? unit : unit >= 0xe000 ? unit - 0x800 : unit + 0x2000)

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const writeLength = (out: Array<number>, length: number): void => {
  let rest = length
  while (rest > 0x7f) {
    out.push((rest & 0x7f) | 0x80)
    rest = Math.floor(rest / 128)
  }
  out.push(rest)
}

const pack = (entries: ReadonlyArray<Entry>): Block => {
  const parts: Array<Uint8Array> = []
  let size = 0
  const push = (bytes: Uint8Array): void => {
    parts.push(bytes)
    size += bytes.length
  }
  for (const entry of entries) {
    const key = encoder.encode(entry.key)
    const version = encoder.encode(entry.version)
    const item = entry.item === undefined ? undefined : encoder.encode(entry.item)
    const lengths: Array<number> = []
    writeLength(lengths, key.length)
    writeLength(lengths, version.length)
    writeLength(lengths, item === undefined ? 0 : item.length + 1)
    push(Uint8Array.from(lengths))
    push(key)
    push(version)
    if (item !== undefined) push(item)
  }
  const bytes = new Uint8Array(size)
  let offset = 0
  for (const part of parts) {
    bytes.set(part, offset)
    offset += part.length
  }
  return { bytes, count: entries.length, first: entries[0]!.key }
}

/** Reads a block back; throws on bytes that are not one. */
export const unpack = (bytes: Uint8Array): Array<Entry> => {
  const entries: Array<Entry> = []
  let offset = 0
  const readLength = (): number => {
    let length = 0
    let factor = 1
    for (;;) {
      const byte = bytes[offset++]
      if (byte === undefined) throw new Error("a snapshot block ends within an entry")
      length += (byte & 0x7f) * factor
      if (byte < 0x80) return length
      factor *= 128
    }
  }
  const readText = (length: number): string => {
    const end = offset + length
    if (end > bytes.length) throw new Error("a snapshot block ends within an entry")
    const text = decoder.decode(bytes.subarray(offset, end))
    offset = end
    return text
  }
  while (offset < bytes.length) {
    const keyLength = readLength()
    const versionLength = readLength()
    const itemLength = readLength()
    const key = readText(keyLength)
    const version = readText(versionLength)
    entries.push({ key, version, item: itemLength === 0 ? undefined : readText(itemLength - 1) })
  }
  return entries
}

/** Puts a snapshot together from its blocks' bytes; throws on bytes that are not blocks in order. */
export const fromBlocks = (parts: ReadonlyArray<Uint8Array>): Snapshot => {
  let count = 0
  let last: string | undefined
  const blocks = parts.map((bytes): Block => {
    const entries = unpack(bytes)
    if (entries.length === 0) throw new Error("a snapshot block is empty")
    for (const entry of entries) {
      if (last !== undefined && compareKeys(last, entry.key) >= 0) throw new Error("snapshot keys are out of order")
      last = entry.key
    }
    count += entries.length
    return { bytes, count: entries.length, first: entries[0]!.key }
  })
  return { blocks, count }
}

export function* entries(snapshot: Snapshot): Generator<Entry> {
  for (const block of snapshot.blocks) yield* unpack(block.bytes)
}

/** Collects rebuilt entries and cuts them into blocks. */
class Builder {
  readonly blocks: Array<Block> = []
  readonly seen: Array<Uint8Array | undefined> = []
  count = 0
  private open: Array<Entry> = []
  private openSeen: Array<number> = []
  private openBytes = 0

  entry(entry: Entry, seen: number): void {
    this.open.push(entry)
    this.openSeen.push(seen)
    this.openBytes += entry.key.length + entry.version.length + (entry.item?.length ?? 0)
    if (this.open.length >= maxEntries || this.openBytes >= maxBytes) this.flush()
  }

  block(block: Block, seen: Uint8Array | undefined): void {
    if (this.open.length > 0 && this.open.length < minEntries && block.count < maxEntries / 2) {
      unpack(block.bytes).forEach((entry, index) => this.entry(entry, seen?.[index] ?? 0))
      return
    }
    this.flush()
    this.blocks.push(block)
    this.seen.push(seen)
    this.count += block.count
  }

  flush(): void {
    if (this.open.length === 0) return
    this.blocks.push(pack(this.open))
    this.seen.push(Uint8Array.from(this.openSeen))
    this.count += this.open.length
    this.open = []
    this.openSeen = []
    this.openBytes = 0
  }
}

/** What a page did to an entry. `before` is the entry that it replaced. */
export interface Difference {
  readonly index: number
  readonly before: Entry | undefined
}

export interface Merged {
  readonly snapshot: Snapshot
  readonly seen: Seen
  /** Entries of the page that are new or have another version, by their index in it, in order. */
  readonly differences: ReadonlyArray<Difference>
}

/** Takes a page, sorted by key and without repeated keys, into a snapshot, and marks its keys as seen. */
export const merge = (snapshot: Snapshot, seen: Seen, page: ReadonlyArray<Entry>): Merged => {
  if (page.length === 0) return { snapshot, seen, differences: [] }
  const builder = new Builder()
  const differences: Array<Difference> = []
  const { blocks } = snapshot
  let from = 0
  for (let index = 0; index < blocks.length; index++) {
    const block = blocks[index]!
    const next = blocks[index + 1]
    let to = from
    while (to < page.length && (next === undefined || compareKeys(page[to]!.key, next.first) < 0)) to++
    if (to === from) builder.block(block, seen[index])
    else mergeBlock(builder, differences, block, seen[index], page, from, to)
    from = to
  }
  for (; from < page.length; from++) {
    differences.push({ index: from, before: undefined })
    builder.entry(page[from]!, 1)
  }
  builder.flush()
  return {
    snapshot: differences.length === 0 ? snapshot : { blocks: builder.blocks, count: builder.count },
    seen: builder.seen,
    differences
  }
}

const mergeBlock = (
  builder: Builder,
  differences: Array<Difference>,
  block: Block,
  seen: Uint8Array | undefined,
  page: ReadonlyArray<Entry>,
  from: number,
  to: number
): void => {
  const old = unpack(block.bytes)
  const marks = seen === undefined ? new Uint8Array(old.length) : seen.slice()
  const fresh: Array<{ readonly at: number; readonly index: number }> = []
  const start = differences.length
  let at = 0
  for (let index = from; index < to; index++) {
    const entry = page[index]!
    while (at < old.length && compareKeys(old[at]!.key, entry.key) < 0) at++
    const before = at < old.length && old[at]!.key === entry.key ? old[at]! : undefined
    if (before === undefined) {
      fresh.push({ at, index })
      differences.push({ index, before })
    } else {
      // of a key that comes on two pages of one walk the first item stands, else a list at rest would change with each walk
      const isRepeated = marks[at] === 1
      marks[at] = 1
      if (!isRepeated && before.version !== entry.version) {
        old[at] = entry
        differences.push({ index, before })
      }
    }
  }
  if (differences.length === start) {
    builder.block(block, marks)
    return
  }
  let added = 0
  for (let position = 0; position <= old.length; position++) {
    while (added < fresh.length && fresh[added]!.at === position) builder.entry(page[fresh[added++]!.index]!, 1)
    if (position < old.length) builder.entry(old[position]!, marks[position]!)
  }
  builder.flush()
}

/** Takes keys out of a snapshot. The removed entries come in key order. */
export const remove = (
  snapshot: Snapshot,
  keys: ReadonlySet<string>
): { readonly snapshot: Snapshot; readonly removed: ReadonlyArray<Entry> } => {
  const builder = new Builder()
  const removed: Array<Entry> = []
  const sorted = [...keys].sort(compareKeys)
  let from = 0
  snapshot.blocks.forEach((block, index) => {
    const next = snapshot.blocks[index + 1]
    const start = from
    while (from < sorted.length && (next === undefined || compareKeys(sorted[from]!, next.first) < 0)) from++
    if (start === from) {
      builder.block(block, undefined)
      return
    }
    const old = unpack(block.bytes)
    const kept = old.filter((entry) => !keys.has(entry.key))
    if (kept.length === old.length) {
      builder.block(block, undefined)
      return
    }
    for (const entry of old) if (keys.has(entry.key)) removed.push(entry)
    for (const entry of kept) builder.entry(entry, 0)
  })
  builder.flush()
  return removed.length === 0
    ? { snapshot, removed }
    : { snapshot: { blocks: builder.blocks, count: builder.count }, removed }
}

/** The keys that a walk has not seen, in order. */
export const unseen = (snapshot: Snapshot, seen: Seen): ReadonlyArray<string> => {
  const keys: Array<string> = []
  snapshot.blocks.forEach((block, index) => {
    const marks = seen[index]
    if (marks !== undefined && marks.every((mark) => mark === 1)) return
    unpack(block.bytes).forEach((entry, position) => {
      if (marks === undefined || marks[position] === 0) keys.push(entry.key)
    })
  })
  return keys
}
