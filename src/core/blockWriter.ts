/**
 * Writes blocks: from entries of other blocks and of pages, which come in key order, or as a copy with other versions.
 */
import type { Block, Cursor } from "./block.js"
import { formats, Items, layoutOf, maxBytes, noItem, versionsOf } from "./block.js"
import type { Page, Versions } from "./page.js"
import { Bytes, decodeText, fingerprint, fingerprintBytes, packText, viewOf } from "./packedText.js"

const encoder = new TextEncoder()

const writeRow = (out: Bytes, key: Uint8Array, start: number, end: number, prefix: number, suffix: number): void => {
  out.number(prefix)
  out.number(suffix)
  packText(out, key, start + prefix, end - suffix)
}

const writeVersion = (out: Bytes, kind: Versions, page: Page, index: number): void => {
  if (kind === "none") return
  const { bytes, starts } = page.versions(kind)
  if (kind === "texts") packText(out, bytes, starts[index]!, starts[index + 1]!)
  else out.copy(bytes, starts[index]!, starts[index + 1]!)
}

/** An entry that has another version now, by its place in the block. */
export interface Patch {
  readonly place: number
  /** Where the old version is. */
  readonly start: number
  readonly end: number
  readonly page: Page
  readonly index: number
}

/**
 * Writes a block anew in which entries have other versions and items, by copying all the rest. `undefined`: it would be too
 * large, or its items have no place yet.
 */
export const patch = (
  block: Block,
  patches: ReadonlyArray<Patch>,
  itemOf: (index: number) => string | undefined
): Block | undefined => {
  const { bytes } = block
  const kind = versionsOf(block)
  if (kind === "fingerprints") {
    const copy = bytes.slice()
    for (const { index, page, start } of patches) {
      const { bytes: versions, starts } = page.versions(kind)
      copy.set(versions.subarray(starts[index]!, starts[index + 1]!), start)
    }
    return { ...block, bytes: copy }
  }
  const old = new Items(block)
  const items = patches.map(({ index }) => itemOf(index))
  if (old.isEmpty && items.some((item) => item !== undefined)) return undefined
  const layout = layoutOf(bytes)
  const out = new Bytes(bytes.length + 1024)
  let from = layout.rows
  for (const { end, index, page, start } of patches) {
    out.copy(bytes, from, start)
    writeVersion(out, kind, page, index)
    from = end
  }
  out.copy(bytes, from, layout.items)
  const rows = out.take()
  out.length = 0
  from = layout.items
  patches.forEach(({ place }, index) => {
    if (old.isEmpty) return
    old.to(place)
    out.copy(bytes, from, old.start)
    writeItem(out, items[index])
    from = old.end
  })
  out.copy(bytes, from, layout.end)
  const kept = out.take()
  out.length = 0
  out.copy(bytes, 0, layout.head)
  out.number(rows.length)
  out.number(kept.length)
  out.copy(rows, 0, rows.length)
  out.copy(kept, 0, kept.length)
  return out.length > maxBytes ? undefined : { ...block, bytes: out.take() }
}

const writeItem = (out: Bytes, item: string | undefined): void => {
  if (item === undefined) {
    out.number(noItem)
    return
  }
  const bytes = encoder.encode(item)
  packText(out, bytes, 0, bytes.length)
}

/** Writes entries, which come in key order, into blocks. */
export class Writer {
  readonly blocks: Array<Block> = []
  private readonly rows = new Bytes(4096)
  private readonly items = new Bytes(1024)
  private count = 0
  private hasItems = false
  private key = new Uint8Array(128)
  private length = 0
  private first: string | undefined
  /** What the last row was, so that the next one need not be compared with it where its source has done so. */
  private lastCursor: Cursor | undefined
  private lastOld = -1
  private lastPage = -2

  /** `size`: cut a block when it has that many. */
  constructor(
    private readonly kind: Versions,
    private readonly size: number
  ) {}

  /** Takes over the entry that a cursor stands at. */
  old(cursor: Cursor, items?: Items): void {
    const { end, index, key, length, start, version, versions } = cursor
    const { bytes } = cursor.block
    if (versions !== this.kind) {
      this.row(key, 0, length)
      if (this.kind === "fingerprints") this.fingerprint(cursor.versionText() ?? "")
    } else if (this.count > 0 && this.lastCursor === cursor && this.lastOld === index - 1) {
      this.rows.copy(bytes, start, end)
      this.keep(key, 0, length, cursor.prefix)
    } else {
      this.row(key, 0, length)
      this.rows.copy(bytes, version, end)
    }
    this.lastCursor = cursor
    this.lastOld = index
    this.lastPage = -2
    if (items === undefined || items.isEmpty || this.kind !== "texts") {
      this.items.number(noItem)
    } else {
      items.to(index)
      this.hasItems = true
      this.items.copy(bytes, items.start, items.end)
    }
    this.advance()
  }

  /** Takes an entry of a page. */
  fresh(page: Page, index: number, item: string | undefined): void {
    const start = page.starts[index]!
    const end = page.starts[index + 1]!
    if (this.count > 0 && this.lastPage === index - 1) {
      writeRow(this.rows, page.bytes, start, end, page.prefixes[index]!, page.suffixes()[index]!)
      this.keep(page.bytes, start, end, page.prefixes[index]!)
    } else {
      this.row(page.bytes, start, end)
    }
    writeVersion(this.rows, this.kind, page, index)
    this.lastCursor = undefined
    this.lastPage = index
    const kept = this.kind === "texts" ? item : undefined
    if (kept !== undefined) this.hasItems = true
    writeItem(this.items, kept)
    this.advance()
  }

  private fingerprint(version: string): void {
    this.rows.reserve(fingerprintBytes)
    const bytes = encoder.encode(version)
    fingerprint(viewOf(bytes), 0, bytes.length, viewOf(this.rows.array), this.rows.length)
    this.rows.length += fingerprintBytes
  }

  private row(key: Uint8Array, start: number, end: number): void {
    let prefix = 0
    let suffix = 0
    if (this.count > 0) {
      const shorter = Math.min(this.length, end - start)
      while (prefix < shorter && this.key[prefix] === key[start + prefix]) prefix++
      while (suffix < shorter - prefix && this.key[this.length - 1 - suffix] === key[end - 1 - suffix]) suffix++
    }
    writeRow(this.rows, key, start, end, prefix, suffix)
    this.keep(key, start, end, prefix)
  }

  /** Keeps a key that the next one is compared with; its first bytes are there already. */
  private keep(key: Uint8Array, start: number, end: number, prefix: number): void {
    const length = end - start
    if (length > this.key.length) {
      const grown = new Uint8Array(2 * length)
      grown.set(this.key.subarray(0, prefix))
      this.key = grown
    }
    for (let index = prefix; index < length; index++) this.key[index] = key[start + index]!
    this.length = length
    this.first ??= decodeText(key, start, end)
  }

  private advance(): void {
    this.count++
    if (this.count >= this.size || this.rows.length + this.items.length >= maxBytes) this.flush()
  }

  /** Ends the block under way. */
  flush(): void {
    if (this.count === 0) return
    const head = new Bytes(256)
    head.number(this.count)
    const first = encoder.encode(this.first!)
    head.number(first.length)
    head.copy(first, 0, first.length)
    head.number(this.length)
    head.copy(this.key, 0, this.length)
    const items = this.hasItems ? this.items.length : 0
    head.number(this.rows.length)
    head.number(items)
    const bytes = new Uint8Array(1 + head.length + this.rows.length + items)
    bytes[0] = formats[this.kind]
    bytes.set(head.array.subarray(0, head.length), 1)
    bytes.set(this.rows.array.subarray(0, this.rows.length), 1 + head.length)
    bytes.set(this.items.array.subarray(0, items), 1 + head.length + this.rows.length)
    this.blocks.push({ bytes, count: this.count, first: this.first!, last: decodeText(this.key, 0, this.length) })
    this.rows.length = 0
    this.items.length = 0
    this.count = 0
    this.hasItems = false
    this.first = undefined
    this.lastCursor = undefined
    this.lastPage = -2
  }
}
