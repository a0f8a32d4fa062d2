/**
 * One page of a listing made ready to be compared: sorted, without repeated keys, its keys and versions as bytes.
 */
import { createHash } from "node:crypto"
import { fingerprint, fingerprintBytes, viewOf } from "./packedText.js"

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

/** How versions are kept: whole, as fingerprints, which say only whether two are the same, or not: then neither are items. */
export type Versions = "texts" | "fingerprints" | "none"

/** Texts one behind the other: the n-th begins at `starts[n]` and ends where the next begins. */
interface Column {
  readonly bytes: Uint8Array
  readonly starts: Uint32Array
}

interface Encoded extends Column {
  readonly isAscii: boolean
}

// what every engine of Node 20 has, and the library of the language version that is compiled for has not
interface WellFormedText {
  readonly isWellFormed: () => boolean
}

const isWellFormed = (text: string): boolean => (text as unknown as WellFormedText).isWellFormed()

const encoder = new TextEncoder()

const encodeAll = (texts: ReadonlyArray<string>): Encoded => {
  const joined = texts.join("")
  const bytes = encoder.encode(joined)
  const starts = new Uint32Array(texts.length + 1)
  const isAscii = bytes.length === joined.length
  let at = 0
  for (let index = 0; index < texts.length; index++) {
    const text = texts[index]!
    at += isAscii ? text.length : Buffer.byteLength(text)
    starts[index + 1] = at
  }
  return { bytes, starts, isAscii }
}

/** The place of the first text that is no Unicode: a lone surrogate has no bytes, so two such keys would become one. */
const illFormed = (texts: ReadonlyArray<string>, { isAscii }: Encoded): number =>
  isAscii ? -1 : texts.findIndex((text) => !isWellFormed(text))

/** The item whose key or version is no Unicode, by its place. */
export interface IllFormed {
  readonly illFormed: number
}

export interface Page {
  readonly size: number
  /** In order. */
  readonly keys: ReadonlyArray<string>
  /** Of the n-th key the place among the items given; undefined: the same place. */
  readonly origin: ReadonlyArray<number> | undefined
  readonly bytes: Uint8Array
  readonly starts: Uint32Array
  /** How many bytes a key shares with the one before it, at its beginning and, of the rest, at its end. */
  readonly prefixes: Uint32Array
  readonly suffixes: () => Uint32Array
  /** The versions, whole or their fingerprints. */
  readonly versions: (kind: Versions) => Column
}

/** The place of a key of the page among the items that the page was made of. */
export const originOf = (page: Page, index: number): number => (page.origin === undefined ? index : page.origin[index]!)

/** Makes a page. Of a repeated key the last item stands. */
export const make = (keys: ReadonlyArray<string>, versions: ReadonlyArray<string>): Page | IllFormed => {
  const keyColumn = encodeAll(keys)
  const versionColumn = encodeAll(versions)
  const bad = [illFormed(keys, keyColumn), illFormed(versions, versionColumn)].filter((index) => index >= 0)
  if (bad.length > 0) return { illFormed: Math.min(...bad) }
  const page = ordered(keys, keyColumn, versionColumn, undefined)
  if (page !== undefined) return page
  const byKey = new Map(keys.map((key, index) => [key, index]))
  const origin = [...byKey.values()].sort((a, b) => compareKeys(keys[a]!, keys[b]!))
  const sorted = origin.map((index) => keys[index]!)
  const sortedVersions = encodeAll(origin.map((index) => versions[index]!))
  return ordered(sorted, encodeAll(sorted), sortedVersions, origin)!
}

/** A page of well-formed keys in order, all of one version. */
export const ofKeys = (keys: ReadonlyArray<string>, version = ""): Page => {
  const starts = new Uint32Array(keys.length + 1)
  const bytes = encoder.encode(version.repeat(keys.length))
  const { length } = encoder.encode(version)
  for (let index = 0; index < starts.length; index++) starts[index] = index * length
  return ordered(keys, encodeAll(keys), { bytes, starts }, undefined)!
}

/** `undefined`: the keys are not in order, or one comes twice. */
const ordered = (
  keys: ReadonlyArray<string>,
  { bytes, starts }: Column,
  versions: Column,
  origin: ReadonlyArray<number> | undefined
): Page | undefined => {
  const size = keys.length
  const view = viewOf(bytes)
  const prefixes = new Uint32Array(size)
  for (let index = 1, before = 0, start = starts[1]!; index < size; index++) {
    const end = starts[index + 1]!
    const shorter = Math.min(start - before, end - start)
    let prefix = 0
    while (prefix + 4 <= shorter && view.getInt32(before + prefix) === view.getInt32(start + prefix)) prefix += 4
    while (prefix < shorter && bytes[before + prefix] === bytes[start + prefix]) prefix++
    if (prefix < shorter ? bytes[before + prefix]! > bytes[start + prefix]! : prefix === end - start) return undefined
    prefixes[index] = prefix
    before = start
    start = end
  }
  let hashed: Column | undefined
  let ends: Uint32Array | undefined
  return {
    size,
    keys,
    origin,
    bytes,
    starts,
    prefixes,
    suffixes: () => (ends ??= sharedEnds(bytes, starts, prefixes, size)),
    versions: (kind) => (kind === "texts" ? versions : (hashed ??= fingerprints(versions, size)))
  }
}

const sharedEnds = (bytes: Uint8Array, starts: Uint32Array, prefixes: Uint32Array, size: number): Uint32Array => {
  const suffixes = new Uint32Array(size)
  for (let index = 1; index < size; index++) {
    const start = starts[index]!
    const end = starts[index + 1]!
    const longest = Math.min(start - starts[index - 1]!, end - start) - prefixes[index]!
    let suffix = 0
    while (suffix < longest && bytes[start - 1 - suffix] === bytes[end - 1 - suffix]) suffix++
    suffixes[index] = suffix
  }
  return suffixes
}

/** What tells the keys and versions of a part of a page from all others. */
export const digest = (page: Page, from: number, to: number): Buffer => {
  const count = to - from
  const lengths = new Uint32Array(2 * count)
  const hash = createHash("sha256")
  const add = ({ bytes, starts }: Column, at: number): void => {
    for (let index = 0; index < count; index++) lengths[at + index] = starts[from + index + 1]! - starts[from + index]!
    hash.update(bytes.subarray(starts[from]!, starts[to]!))
  }
  add(page, 0)
  add(page.versions("texts"), count)
  return hash.update(lengths).digest()
}

const fingerprints = ({ bytes, starts }: Column, size: number): Column => {
  const from = viewOf(bytes)
  const out = new Uint8Array(size * fingerprintBytes)
  const to = viewOf(out)
  const places = new Uint32Array(size + 1)
  for (let index = 0; index < size; index++) {
    fingerprint(from, starts[index]!, starts[index + 1]!, to, index * fingerprintBytes)
    places[index + 1] = (index + 1) * fingerprintBytes
  }
  return { bytes: out, starts: places }
}
