/**
 * A packed run of a snapshot: a few hundred entries in key order, as immutable bytes that a checkpoint stores as they are.
 *
 * A key is written as what it does not share with the key before. Equal entries give equal bytes, so a page that brings
 * nothing new is recognised without unpacking anything.
 *
 * The bytes: format; number of entries; first and last key; how long rows and items are; the rows, each how much of the key
 * before it shares at its beginning and end, what lies between, and its version; if any item is kept, the items.
 */
import type { Page, Versions } from "./page.js"
import { compareKeys } from "./page.js"
import { decodeText, fingerprintBytes, isPacked, Reader, skipPacked, unpackText, unpackTo } from "./packedText.js"

export interface Block {
  readonly bytes: Uint8Array
  readonly count: number
  readonly first: string
  readonly last: string
}

export interface Entry {
  readonly key: string
  /** `undefined` where only its fingerprint is kept. */
  readonly version: string | undefined
  /** The item as text, where it is kept. */
  readonly item: string | undefined
}

export const maxEntries = 512
export const maxBytes = 64 * 1024

/** The first byte of a block, by what it keeps of versions. */
export const formats: Readonly<Record<Versions, number>> = { texts: 0xd1, fingerprints: 0xd2, none: 0xd3 }
const kinds: ReadonlyMap<number, Versions> = new Map([
  [formats.texts, "texts"],
  [formats.fingerprints, "fingerprints"],
  [formats.none, "none"]
])

export const versionsOf = ({ bytes }: Block): Versions => kinds.get(bytes[0]!)!

/** In place of an item that is not kept: the header that no text has. */
export const noItem = 1

/** Where the parts of a block begin. `head` is the end of what {@link fromBytes} reads. */
export interface Layout {
  readonly head: number
  readonly rows: number
  readonly items: number
  readonly end: number
}

export const layoutOf = (bytes: Uint8Array): Layout => {
  const reader = new Reader(bytes, 1, bytes.length)
  reader.number()
  reader.skip(reader.number())
  reader.skip(reader.number())
  const head = reader.at
  const rowBytes = reader.number()
  const itemBytes = reader.number()
  return { head, rows: reader.skip(rowBytes), items: reader.skip(itemBytes), end: reader.at }
}

/** Reads the head of a block; throws on bytes that do not begin as one. {@link check} reads all of it. */
export const fromBytes = (bytes: Uint8Array): Block => {
  if (bytes.length === 0) throw new Error("a snapshot block is empty")
  if (!kinds.has(bytes[0]!)) throw new Error(`a snapshot block has the unknown format ${bytes[0]}`)
  const reader = new Reader(bytes, 1, bytes.length)
  const count = reader.number()
  if (count === 0) throw new Error("a snapshot block is empty")
  const text = (): string => {
    const length = reader.number()
    const start = reader.skip(length)
    return decodeText(bytes, start, reader.at)
  }
  return { bytes, count, first: text(), last: text() }
}

/** Reads a block from entry to entry. Its fields are those of the entry that it stands at. */
export class Cursor {
  key = new Uint8Array(128)
  length = 0
  /** Its bytes in the block: where it begins, where its version does, where it ends. */
  start = 0
  version = 0
  end: number
  prefix = 0
  suffix = 0
  index = -1
  readonly versions: Versions
  private readonly reader: Reader

  constructor(readonly block: Block) {
    this.versions = versionsOf(block)
    const { items, rows } = layoutOf(block.bytes)
    this.reader = new Reader(block.bytes, rows, items)
    this.end = this.reader.at
  }

  /** Steps to the next entry; false: there is none. */
  next(): boolean {
    const { reader } = this
    if (this.end >= reader.end) return false
    this.start = this.end
    this.index++
    const prefix = reader.number()
    const suffix = reader.number()
    const header = reader.number()
    const middle = Math.floor(header / 2)
    const { length } = this
    if (prefix + suffix > length) throw new Error("a snapshot block shares what is not there")
    const grown = prefix + middle + suffix
    if (grown > this.key.length) {
      if (middle > 2 * (reader.end - reader.at)) throw new Error("a snapshot block ends within an entry")
      const key = new Uint8Array(2 * grown)
      key.set(this.key.subarray(0, length))
      this.key = key
    }
    if (suffix > 0 && grown !== length) this.key.copyWithin(grown - suffix, length - suffix, length)
    unpackTo(reader, header, this.key, prefix)
    this.length = grown
    this.prefix = prefix
    this.suffix = suffix
    this.version = reader.at
    if (this.versions === "fingerprints") reader.skip(fingerprintBytes)
    else if (this.versions === "texts") skipPacked(reader, reader.number())
    this.end = reader.at
    return true
  }

  keyText(): string {
    return decodeText(this.key, 0, this.length)
  }

  versionText(): string | undefined {
    if (this.versions !== "texts") return undefined
    const reader = new Reader(this.block.bytes, this.version, this.end)
    return unpackText(reader, reader.number())
  }
}

/** Reads the items of a block one after the other. */
export class Items {
  /** Where the item is that it stands at. */
  start: number
  end: number
  private index = -1
  private readonly reader: Reader
  readonly isEmpty: boolean

  constructor({ bytes }: Block) {
    const { end, items } = layoutOf(bytes)
    this.reader = new Reader(bytes, items, end)
    this.isEmpty = items === end
    this.start = this.end = items
  }

  /** Steps forward to an entry. */
  to(index: number): void {
    if (this.isEmpty) return
    for (; this.index < index; this.index++) {
      this.start = this.reader.at
      const header = this.reader.number()
      if (header !== noItem) skipPacked(this.reader, header)
      this.end = this.reader.at
    }
  }

  text(): string | undefined {
    if (this.isEmpty) return undefined
    const reader = new Reader(this.reader.bytes, this.start, this.end)
    const header = reader.number()
    return header === noItem ? undefined : unpackText(reader, header)
  }

  get isAtEnd(): boolean {
    return this.reader.at === this.reader.end
  }
}

/** Reads all entries. */
export function* entries(block: Block): Generator<Entry> {
  const cursor = new Cursor(block)
  const items = new Items(block)
  while (cursor.next()) {
    items.to(cursor.index)
    yield { key: cursor.keyText(), version: cursor.versionText(), item: items.text() }
  }
}

/** Reads a block to its end; throws on bytes that are not one. */
export const check = (bytes: Uint8Array): void => {
  const block = fromBytes(bytes)
  const cursor = new Cursor(block)
  let before: string | undefined
  while (cursor.next()) {
    const text = cursor.keyText()
    if (before !== undefined && compareKeys(before, text) >= 0) {
      throw new Error("the keys of a snapshot block are out of order")
    }
    if (before === undefined && text !== block.first) throw new Error("a snapshot block begins with another key")
    cursor.versionText()
    before = text
  }
  if (cursor.index !== block.count - 1) throw new Error("a snapshot block does not hold the number that it says")
  if (before !== block.last) throw new Error("a snapshot block ends with another key")
  const items = new Items(block)
  for (let index = 0; index < block.count && !items.isEmpty; index++) {
    items.to(index)
    items.text()
  }
  if (!items.isAtEnd || layoutOf(bytes).end !== bytes.length) throw new Error("a snapshot block goes on behind its end")
}

/**
 * Goes through a block and a part of a page in key order. `visit` is told where the entry is that comes next: in the block
 * (below 0), in both (0) or in the page (above 0). At the end of the page's part it stops; true: the cursor then stands at an
 * entry that was not visited.
 */
export const merge = (
  cursor: Cursor,
  page: Page,
  from: number,
  to: number,
  visit: (where: number, index: number) => void
): boolean => {
  const { bytes, prefixes, starts } = page
  let index = from
  let isOpen = cursor.next()
  // how both keys compare, and how many bytes they are known to share
  let order = 0
  let shared = 0
  const compare = (): void => {
    const { key, length } = cursor
    const start = starts[index]!
    const size = starts[index + 1]! - start
    const shorter = Math.min(length, size)
    while (shared < shorter && key[shared] === bytes[start + shared]) shared++
    order = shared < shorter ? key[shared]! - bytes[start + shared]! : length - size
  }
  if (isOpen && index < to) compare()
  while (index < to) {
    if (!isOpen) {
      visit(1, index++)
      continue
    }
    visit(order, index)
    const before = order
    if (before <= 0) isOpen = cursor.next()
    if (before >= 0) index++
    if (!isOpen || index >= to) continue
    // a key that shares less with the one before it than that did with the other side is behind both
    const ofBlock = before <= 0 ? cursor.prefix : Infinity
    const ofPage = before >= 0 ? prefixes[index]! : Infinity
    const least = Math.min(ofBlock, ofPage)
    if (before === 0 ? ofBlock === ofPage : least === shared) {
      if (before === 0) shared = least
      compare()
    } else if (before === 0 || least < shared) {
      order = ofBlock < ofPage ? 1 : -1
      shared = least
    }
  }
  return isOpen
}

/** Whether the entry that a cursor stands at has the version of a page's. */
export const isVersion = (cursor: Cursor, page: Page, index: number): boolean => {
  const { bytes } = cursor.block
  const { bytes: versions, starts } = page.versions(cursor.versions)
  const start = starts[index]!
  if (cursor.versions === "texts") return isPacked(bytes, cursor.version, versions, start, starts[index + 1]!)
  let at = cursor.version
  for (let byte = start; byte < starts[index + 1]!; byte++) if (bytes[at++] !== versions[byte]) return false
  return true
}
