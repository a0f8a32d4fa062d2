/**
 * Reads one page of ListObjectsV2: all of it or nothing.
 *
 * A page counts only from its root's start tag to its end tag, with nothing but what such a page holds between them, in any
 * order, and with counts that agree. It is read as bytes: what nobody wants never becomes a string, and no string is a slice
 * that keeps the whole page in memory.
 */
import * as Either from "effect/Either"
import type { ObjectMeta, ObjectPage } from "./ObjectStore.js"

/** Why a page is none: it ends too early, or is something else. */
export class Unreadable {
  readonly reason: "Truncated" | "Decode"
  readonly detail: string
  constructor(reason: "Truncated" | "Decode", detail: string) {
    this.reason = reason
    this.detail = detail
  }
}

/** Reads a page from its bytes, which are used up. */
export const scan = (bytes: Uint8Array): Either.Either<ObjectPage, Unreadable> =>
  Either.try({
    try: () => new Scanner(bytes).page(),
    catch: (error) => (error instanceof Unreadable ? error : malformed("text that is not in the encoding it names"))
  })

const malformed = (what: string): Unreadable => new Unreadable("Decode", `is no page of a listing: it holds ${what}`)
const cutOff = (): Unreadable => new Unreadable("Truncated", "ends before its end tag")

const lessThan = 0x3c
const greaterThan = 0x3e
const slash = 0x2f
const ampersand = 0x26
const percent = 0x25
const plus = 0x2b
const doubleQuote = 0x22
const isSpace = (byte: number | undefined): boolean => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09

const maxDepth = 16

/** The name of an element, and its tags in bytes. */
class Tag {
  readonly name: string
  readonly start: Buffer
  /** Without its last character, before which there may be space. */
  readonly end: Buffer
  constructor(name: string) {
    this.name = name
    this.start = Buffer.from(`<${name}>`)
    this.end = Buffer.from(`</${name}`)
  }
}

const root = new Tag("ListBucketResult")
const contents = new Tag("Contents")
const key = new Tag("Key")
const lastModified = new Tag("LastModified")
const etag = new Tag("ETag")
const size = new Tag("Size")
const isTruncated = new Tag("IsTruncated")
const token = new Tag("NextContinuationToken")
const keyCount = new Tag("KeyCount")
const encodingType = new Tag("EncodingType")

const wanted = [root, contents, key, lastModified, etag, size, isTruncated, token, keyCount, encodingType]
const others = ["StorageClass", "Owner", "ID", "DisplayName", "Type", "ChecksumAlgorithm", "ChecksumType"]

/** The tags of almost every page, by the first letter of the name. */
const known: ReadonlyArray<ReadonlyArray<Tag>> = Array.from({ length: 256 }, (_, letter) =>
  [...wanted, ...others.map((name) => new Tag(name))].filter(({ name }) => name.charCodeAt(0) === letter)
)

const startTag = /^([A-Za-z_][\w.:-]*)(?:\s+[A-Za-z_][\w.:-]*\s*=\s*(?:"[^"<]*"|'[^'<]*'))*\s*(\/?)$/

const quoteEntity = Buffer.from("&quot;")
const declaration = Buffer.from("<?xml")
const byteOrderMark = Buffer.from("\ufeff")

/** Keys may begin with what elsewhere is a byte order mark. */
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

type Mutable<A> = { -readonly [K in keyof A]: A[K] }

class Scanner {
  private readonly bytes: Buffer
  private at = 0
  /** Whether the element that was entered last is `<Name/>`. */
  private isEmpty = false
  /** Whether there is text that may be encoded. */
  private hasEscapes = false

  constructor(bytes: Uint8Array) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  page(): ObjectPage {
    this.prolog()
    const objects: Array<Mutable<ObjectMeta>> = []
    const fields = new Map<Tag, string>()
    while (this.hasChild()) {
      const tag = this.enter()
      switch (tag) {
        case contents:
          objects.push(this.object())
          break
        case isTruncated:
        case token:
        case keyCount:
        case encodingType:
          if (fields.has(tag)) throw malformed(`two of <${tag.name}>`)
          fields.set(tag, this.value(tag))
          break
        default:
          this.skip(tag)
      }
    }
    this.leave(root)
    this.skipSpace()
    if (this.at < this.bytes.length) throw malformed("more behind its end tag")
    const page = complete(objects, fields)
    if (this.hasEscapes && fields.get(encodingType) === "url") {
      for (const object of objects) object.key = decoded(object.key)
    }
    return page
  }

  private object(): ObjectMeta {
    let name: string | undefined
    let bytes: number | undefined
    let version: string | undefined
    let lastModifiedMillis: number | undefined
    while (this.hasChild()) {
      const tag = this.enter()
      switch (tag) {
        case key:
          if (name !== undefined) throw malformed("an object with two keys")
          name = this.value(tag)
          break
        case size:
          if (bytes !== undefined) throw malformed("an object with two sizes")
          bytes = this.wholeNumber(tag)
          break
        case etag:
          if (version !== undefined) throw malformed("an object with two etags")
          version = this.etag()
          break
        case lastModified:
          if (lastModifiedMillis !== undefined) throw malformed("an object with two dates")
          lastModifiedMillis = this.instant(tag)
          break
        default:
          this.skip(tag)
      }
    }
    this.leave(contents)
    if (name === undefined || name === "") throw malformed("an object without a key")
    if (bytes === undefined) throw malformed("an object without a size")
    // written out, so that the objects of a page have one shape
    if (version === undefined || version === "") {
      return lastModifiedMillis === undefined
        ? { key: name, size: bytes }
        : { key: name, size: bytes, lastModifiedMillis }
    }
    return lastModifiedMillis === undefined
      ? { key: name, size: bytes, etag: version }
      : { key: name, size: bytes, etag: version, lastModifiedMillis }
  }

  /** Goes to the inside of the root. */
  private prolog(): void {
    if (this.holds(byteOrderMark, 0)) this.at = byteOrderMark.length
    this.skipSpace()
    if (this.holds(declaration, this.at)) {
      this.at = this.find("?>") + 2
      this.skipSpace()
    }
    const first = this.bytes[this.at]
    if (first !== undefined && first !== lessThan) throw malformed("something else than XML")
    const tag = this.bytes.toString("latin1", this.at, this.find(">"))
    if (!/^<ListBucketResult(?![^\s/])/.test(tag)) throw malformed("another document")
    this.enter()
  }

  private find(text: string): number {
    const at = this.bytes.indexOf(text, this.at, "latin1")
    if (at < 0) throw cutOff()
    return at
  }

  private holds(part: Buffer, at: number): boolean {
    const { bytes } = this
    if (at + part.length > bytes.length) return false
    for (let index = 0; index < part.length; index++) if (bytes[at + index] !== part[index]) return false
    return true
  }

  private skipSpace(): void {
    while (isSpace(this.bytes[this.at])) this.at++
  }

  /** Goes to the next tag, and tells whether an element begins there. */
  private hasChild(): boolean {
    if (this.isEmpty) return false
    const { bytes } = this
    if (bytes[this.at] !== lessThan) {
      this.skipSpace()
      if (bytes[this.at] !== lessThan) throw this.unexpected("text where there is none")
    }
    return bytes[this.at + 1] !== slash
  }

  /** Goes into the element that begins here. */
  private enter(): Tag {
    const candidates = known[this.bytes[this.at + 1] ?? 0]!
    for (let index = 0; index < candidates.length; index++) {
      const tag = candidates[index]!
      if (this.holds(tag.start, this.at)) {
        this.at += tag.start.length
        this.isEmpty = false
        return tag
      }
    }
    const end = this.find(">")
    const match = startTag.exec(this.bytes.toString("latin1", this.at + 1, end))
    if (match === null) throw malformed("a tag that cannot be read")
    this.at = end + 1
    this.isEmpty = match[2] === "/"
    const name = match[1]!
    return wanted.find((tag) => tag.name === name) ?? new Tag(name)
  }

  /** Goes over the end tag of an element. */
  private leave({ end, name }: Tag): void {
    if (this.isEmpty) {
      this.isEmpty = false
      return
    }
    if (!this.holds(end, this.at)) throw this.unexpected(`no end of <${name}>`)
    this.at += end.length
    if (this.bytes[this.at] !== greaterThan) {
      this.skipSpace()
      if (this.bytes[this.at] !== greaterThan) throw this.unexpected(`no end of <${name}>`)
    }
    this.at++
  }

  /** Goes over the text of an element and its end tag; gives the place where the text ends. */
  private goOver(tag: Tag): number {
    if (!this.isEmpty) {
      const { bytes } = this
      const { length } = bytes
      let at = this.at
      while (at < length && bytes[at] !== lessThan) at++
      if (at === length) throw cutOff()
      this.at = at
    }
    const end = this.at
    this.leave(tag)
    return end
  }

  private value(tag: Tag): string {
    const start = this.at
    return this.copy(start, this.goOver(tag))
  }

  private copy(start: number, end: number): string {
    const { bytes } = this
    let isPlain = true
    for (let at = start; at < end; at++) {
      const byte = bytes[at]!
      if (byte === ampersand || byte > 0x7f) isPlain = false
      else if (byte === percent || byte === plus) this.hasEscapes = true
    }
    return isPlain ? bytes.toString("latin1", start, end) : unescaped(utf8.decode(bytes.subarray(start, end)))
  }

  /** An etag almost always is text between two entities for quotes. */
  private etag(): string {
    const first = this.at + quoteEntity.length - 1
    const isQuoted = !this.isEmpty && this.holds(quoteEntity, this.at)
    const start = this.at
    const end = this.goOver(etag)
    const last = end - quoteEntity.length
    if (!isQuoted || last <= first || !this.holds(quoteEntity, last)) return this.copy(start, end)
    // the page is ours: with the quotes written into it, most etags are one copy and no strings in between
    this.bytes[first] = this.bytes[last] = doubleQuote
    return this.copy(first, last + 1)
  }

  private wholeNumber(tag: Tag): number {
    const start = this.at
    return wholeNumber(this.bytes, start, this.goOver(tag))
  }

  private instant(tag: Tag): number {
    const start = this.at
    return instant(this.bytes, start, this.goOver(tag))
  }

  /** Goes over an element, whatever is in it. */
  private skip(tag: Tag, depth = 0): void {
    if (depth > maxDepth) throw malformed("elements that are nested too deep")
    const { bytes } = this
    while (!this.isEmpty) {
      while (this.at < bytes.length && bytes[this.at] !== lessThan) this.at++
      if (this.at === bytes.length) throw cutOff()
      if (bytes[this.at + 1] === slash) break
      this.skip(this.enter(), depth + 1)
    }
    this.leave(tag)
  }

  private unexpected(what: string): Unreadable {
    return this.bytes.indexOf(greaterThan, this.at) < 0 ? cutOff() : malformed(what)
  }
}

const complete = (objects: ReadonlyArray<Mutable<ObjectMeta>>, fields: ReadonlyMap<Tag, string>): ObjectPage => {
  const encoding = fields.get(encodingType) ?? ""
  if (encoding !== "" && encoding !== "url") throw malformed("keys in an unknown encoding")
  const count = fields.get(keyCount)
  if (count !== undefined && count !== String(objects.length)) {
    throw malformed(`${objects.length} objects and another count of them`)
  }
  const next = fields.get(token) ?? ""
  switch (fields.get(isTruncated)) {
    case "false":
      return { objects }
    case "true":
      if (next === "") throw malformed("no token, though it is not the last page")
      return { objects, next }
    default:
      throw malformed("no word on whether it is the last page")
  }
}

/** Amazon writes a space as `+`, others as `%20`; a plus is `%2B` with all of them. */
const decoded = (key: string): string => {
  const spaced = key.includes("+") ? key.replaceAll("+", " ") : key
  return spaced.includes("%") ? decodeURIComponent(spaced) : spaced
}

const entities: { readonly [name: string]: string } = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" }

/** Replaces the entities of a text from XML. */
export const unescaped = (text: string): string =>
  text.includes("&")
    ? text.replace(/&(?:#(\d{1,7})|#x([\da-f]{1,6})|(\w{2,4}));|&/gi, (_, decimal, hex, name) => {
        const character =
          name === undefined
            ? fromCodePoint(decimal === undefined ? Number.parseInt(hex, 16) : Number(decimal))
            : entities[name]
        if (character === undefined) throw malformed("an unknown entity")
        return character
      })
    : text

const fromCodePoint = (code: number): string | undefined =>
  code <= 0x10ffff && (code < 0xd800 || code > 0xdfff) ? String.fromCodePoint(code) : undefined

/** All that is exact in a number, and more than any store holds. */
const maxDigits = 15

/** The number that stands in a part of the bytes, or NaN. */
const digits = (bytes: Uint8Array, start: number, end: number): number => {
  if (end <= start || end - start > maxDigits) return Number.NaN
  let number = 0
  for (let at = start; at < end; at++) {
    const digit = bytes[at]! - 0x30
    if (digit < 0 || digit > 9) return Number.NaN
    number = number * 10 + digit
  }
  return number
}

const wholeNumber = (bytes: Uint8Array, start: number, end: number): number => {
  const number = digits(bytes, start, end)
  if (Number.isNaN(number)) throw malformed("a size that is no whole number")
  return number
}

const dash = 0x2d
const colon = 0x3a

/** Reads `2024-12-31T23:59:59Z`, with a fraction of a second or none. */
const instant = (bytes: Uint8Array, start: number, end: number): number => {
  const year = digits(bytes, start, start + 4)
  const month = digits(bytes, start + 5, start + 7)
  const day = digits(bytes, start + 8, start + 10)
  const hour = digits(bytes, start + 11, start + 13)
  const minute = digits(bytes, start + 14, start + 16)
  const second = digits(bytes, start + 17, start + 19)
  const hasSeparators =
    bytes[start + 4] === dash &&
    bytes[start + 7] === dash &&
    bytes[start + 10] === 0x54 &&
    bytes[start + 13] === colon &&
    bytes[start + 16] === colon
  const isInRange = month >= 1 && month <= 12 && day >= 1 && day <= 31 && hour <= 23 && minute <= 59 && second <= 60
  const millis = hasSeparators && isInRange ? fractionMillis(bytes, start + 19, end) : Number.NaN
  const value = Date.UTC(year, month - 1, day, hour, minute, second, millis)
  if (Number.isNaN(value)) throw malformed("a date that cannot be read")
  return value
}

/** Of `Z` or `.123Z`. */
const fractionMillis = (bytes: Uint8Array, start: number, end: number): number => {
  if (bytes[end - 1] !== 0x5a) return Number.NaN
  if (end - start === 1) return 0
  if (bytes[start] !== 0x2e) return Number.NaN
  return Math.floor(digits(bytes, start + 1, end - 1) * 10 ** (3 - (end - start - 2)))
}
