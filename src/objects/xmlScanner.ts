/**
 * A strict scanner for the plain XML of one answer: elements, attributes in double quotes, text and its entities. Comments, CDATA
 * and declarations are refused, since no store sends them.
 *
 * It works on bytes: a page has a dozen elements to skip for each that is wanted, and the texts that are taken out are strings of
 * their own, which do not keep the page alive.
 */
import { isUtf8 } from "node:buffer"

/** What stands at the scanner: the start of an element, its end, or the end of all. */
export type Kind = "open" | "close" | "end"

const lessThan = 0x3c
const greaterThan = 0x3e
const slash = 0x2f
const quote = 0x22
const equals = 0x3d

const isSpace = (byte: number): boolean => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09

const isName = (byte: number): boolean =>
  (byte >= 0x61 && byte <= 0x7a) ||
  (byte >= 0x41 && byte <= 0x5a) ||
  (byte >= 0x30 && byte <= 0x39) ||
  byte === 0x2d ||
  byte === 0x5f ||
  byte === 0x2e ||
  byte === 0x3a ||
  byte >= 0x80

const entity = /&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|(lt|gt|amp|quot|apos));|&/g
const named: Readonly<Record<string, string>> = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" }

export class XmlScanner {
  /** Why it went no further: the text ends too early, or is nothing that it knows. */
  problem: "cut" | "malformed" | undefined
  /** Attributes of the element at hand, as they are written. */
  private attributesStart = 0
  private attributesEnd = 0
  private nameStart = 0
  private nameEnd = 0
  private isEmpty = false
  private textStart = 0
  private textEnd = 0
  private at = 0
  private readonly bytes: Buffer

  constructor(bytes: Uint8Array) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    // half of a character at the end is the likely reason
    if (!isUtf8(this.bytes)) this.problem = "cut"
    if (this.bytes[0] === 0xef && this.bytes[1] === 0xbb && this.bytes[2] === 0xbf) this.at = 3
    this.skipSpace()
    if (this.at === this.bytes.length) this.problem = "cut"
    if (this.bytes[this.at] === lessThan && this.bytes[this.at + 1] === 0x3f) {
      const end = this.bytes.indexOf("?>", this.at, "latin1")
      if (end < 0) this.problem = "cut"
      this.at = end + 2
    }
  }

  /** Whether the element at hand is called that. */
  is(name: string): boolean {
    if (this.nameEnd - this.nameStart !== name.length) return false
    for (let index = 0; index < name.length; index++) {
      if (this.bytes[this.nameStart + index] !== name.charCodeAt(index)) return false
    }
    return true
  }

  /** Whether the element at hand has an attribute like `Encoded="true"`, written that way. */
  has(attribute: string): boolean {
    const text = this.bytes.toString("latin1", this.attributesStart, this.attributesEnd)
    return text.split(/\s+/).includes(attribute)
  }

  /** Reads the children of the element at hand to its end. `onChild` must read each: by `children`, `text` or `skip`. */
  children(onChild: () => boolean): boolean {
    if (this.isEmpty) return true
    const { nameEnd, nameStart } = this
    while (true) {
      const kind = this.next()
      if (kind === "end") return this.fail("cut")
      if (kind === undefined || !this.isBlank()) return this.fail("malformed")
      if (kind === "close") return this.closes(nameStart, nameEnd) || this.fail("malformed")
      if (!onChild()) return this.fail("malformed")
    }
  }

  /** The text of the element at hand, which has no children. */
  text(): string | undefined {
    if (this.isEmpty) return ""
    const { nameEnd, nameStart } = this
    const kind = this.next()
    if (kind !== "close" || !this.closes(nameStart, nameEnd)) {
      this.fail(kind === "end" ? "cut" : "malformed")
      return undefined
    }
    const text = this.bytes.toString("utf8", this.textStart, this.textEnd)
    return text.includes("&") ? this.unescape(text) : text
  }

  /** Reads past the element at hand. */
  skip(): boolean {
    if (this.isEmpty) return true
    const open: Array<number> = [this.nameStart, this.nameEnd]
    while (open.length > 0) {
      const kind = this.next()
      if (kind === "open") {
        if (!this.isEmpty) open.push(this.nameStart, this.nameEnd)
      } else if (kind === "close") {
        const end = open.pop()!
        if (!this.closes(open.pop()!, end)) return this.fail("malformed")
      } else {
        return this.fail(kind === "end" ? "cut" : "malformed")
      }
    }
    return true
  }

  /** Reads the outermost element, which must be called that, and makes sure that nothing stands behind it. */
  document(root: string, onChild: () => boolean): boolean {
    if (this.problem !== undefined) return false
    const kind = this.next()
    if (kind === "end" && this.isBlank()) return this.fail("cut")
    if (kind !== "open" || !this.isBlank() || !this.is(root)) return this.fail("malformed")
    if (!this.children(onChild)) return false
    return (this.next() === "end" && this.isBlank()) || this.fail("malformed")
  }

  /** Goes to the next start or end of an element, and keeps the text before it. */
  private next(): Kind | undefined {
    const { bytes } = this
    this.textStart = this.at
    const start = bytes.indexOf(lessThan, this.at)
    this.textEnd = start < 0 ? bytes.length : start
    if (start < 0) {
      this.at = bytes.length
      return "end"
    }
    const isClose = bytes[start + 1] === slash
    this.at = this.nameStart = start + (isClose ? 2 : 1)
    while (this.at < bytes.length && isName(bytes[this.at]!)) this.at++
    this.nameEnd = this.at
    this.attributesStart = this.attributesEnd = this.at
    this.isEmpty = false
    if (this.at === bytes.length) return this.stop("cut")
    if (this.nameEnd === this.nameStart) return this.stop("malformed")
    if (bytes[this.at] === greaterThan) {
      this.at++
      return isClose ? "close" : "open"
    }
    return isClose ? this.stop("malformed") : this.restOfTag()
  }

  /** Attributes, and the end of a tag that has no content. */
  private restOfTag(): Kind | undefined {
    const { bytes } = this
    while (true) {
      const before = this.at
      this.skipSpace()
      const byte = bytes[this.at]
      if (byte === undefined) return this.stop("cut")
      if (byte === greaterThan || byte === slash) {
        this.attributesEnd = before
        this.isEmpty = byte === slash
        if (this.isEmpty && bytes[++this.at] !== greaterThan) {
          return this.stop(this.at === bytes.length ? "cut" : "malformed")
        }
        this.at++
        return "open"
      }
      const nameStart = this.at
      if (nameStart === before) return this.stop("malformed")
      while (this.at < bytes.length && isName(bytes[this.at]!)) this.at++
      if (this.at + 1 >= bytes.length) return this.stop("cut")
      if (this.at === nameStart || bytes[this.at] !== equals || bytes[this.at + 1] !== quote) {
        return this.stop("malformed")
      }
      const end = bytes.indexOf(quote, this.at + 2)
      if (end < 0) return this.stop("cut")
      this.at = end + 1
    }
  }

  private closes(nameStart: number, nameEnd: number): boolean {
    const length = nameEnd - nameStart
    if (this.nameEnd - this.nameStart !== length) return false
    for (let index = 0; index < length; index++) {
      if (this.bytes[this.nameStart + index] !== this.bytes[nameStart + index]) return false
    }
    return true
  }

  private isBlank(): boolean {
    for (let at = this.textStart; at < this.textEnd; at++) if (!isSpace(this.bytes[at]!)) return false
    return true
  }

  private skipSpace(): void {
    while (this.at < this.bytes.length && isSpace(this.bytes[this.at]!)) this.at++
  }

  private unescape(text: string): string | undefined {
    let isKnown = true
    const plain = text.replace(entity, (_, decimal?: string, hex?: string, name?: string) => {
      if (name !== undefined) return named[name]!
      const code = decimal === undefined ? parseInt(hex ?? "", 16) : Number(decimal)
      if (code >= 1 && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff)) return String.fromCodePoint(code)
      isKnown = false
      return ""
    })
    if (isKnown) return plain
    this.fail("malformed")
    return undefined
  }

  /** The first problem counts. */
  private fail(problem: "cut" | "malformed"): false {
    this.problem ??= problem
    return false
  }

  private stop(problem: "cut" | "malformed"): undefined {
    this.fail(problem)
    return undefined
  }
}
