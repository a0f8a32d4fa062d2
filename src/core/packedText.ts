/**
 * Texts as few bytes: lengths, runs of hexadecimal digits at half their size, and fingerprints.
 *
 * The same text always gives the same bytes, so packed texts are compared without being unpacked.
 */

/** Bytes that grow at their end. One is used again and again, so that a page costs no allocation but its own result. */
export class Bytes {
  array: Uint8Array
  length = 0

  constructor(capacity: number) {
    this.array = new Uint8Array(capacity)
  }

  /** Makes room for so many more bytes. */
  reserve(more: number): void {
    if (this.length + more <= this.array.length) return
    const grown = new Uint8Array(Math.max(2 * this.array.length, this.length + more))
    grown.set(this.array.subarray(0, this.length))
    this.array = grown
  }

  copy(from: Uint8Array, start: number, end: number): void {
    this.reserve(end - start)
    const { array } = this
    // a call into the engine costs more than a few bytes
    if (end - start > 48) array.set(from.subarray(start, end), this.length)
    else for (let index = start, at = this.length; index < end; index++, at++) array[at] = from[index]!
    this.length += end - start
  }

  /** Writes a whole number, seven bits a byte. */
  number(value: number): void {
    this.reserve(8)
    const { array } = this
    let rest = value
    while (rest > 0x7f) {
      array[this.length++] = (rest & 0x7f) | 0x80
      rest = Math.floor(rest / 128)
    }
    array[this.length++] = rest
  }

  /** The bytes, in memory of exactly their size. */
  take(): Uint8Array {
    return this.array.slice(0, this.length)
  }
}

/** A place in bytes that are read; reading behind the end throws. */
export class Reader {
  constructor(
    public bytes: Uint8Array,
    public at: number,
    public end: number
  ) {}

  number(): number {
    const { bytes } = this
    const first = bytes[this.at]!
    if (first < 0x80 && this.at < this.end) {
      this.at++
      return first
    }
    let value = 0
    let factor = 1
    for (;;) {
      if (this.at >= this.end || factor > 2 ** 42) throw cutOff()
      const byte = bytes[this.at++]!
      value += (byte & 0x7f) * factor
      if (byte < 0x80) return value
      factor *= 128
    }
  }

  /** Steps over so many bytes, and says where they begin. */
  skip(length: number): number {
    const start = this.at
    this.at += length
    if (this.at > this.end) throw cutOff()
    return start
  }
}

const cutOff = (): Error => new Error("a snapshot block ends within an entry")

/** A view that reads several bytes at once, wherever they begin. */
export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** The value of a lower-case hexadecimal digit, by its character; 16: it is none. */
const digits = new Uint8Array(256).fill(16)
const digitOf = new Uint8Array(16)
for (let digit = 0; digit < 16; digit++) {
  digitOf[digit] = digit.toString(16).charCodeAt(0)
  digits[digitOf[digit]!] = digit
}

const dash = 0x2d
// what is shorter gains nothing
const minText = 8
const minRun = 6
const minRunAndDash = 3
const maxRun = 64
const maxLiteral = 128

/**
 * Writes bytes with their length. Names, ids and tags in listings are mostly hexadecimal or decimal digits: runs of these
 * take four bits a digit, and the dash behind a run, as in UUIDs, is free.
 *
 * A run begins with a byte: up to 0x7f so many plain bytes and one, up to 0xbf so many digits, above the same and a dash.
 */
export const packText = (out: Bytes, from: Uint8Array, start: number, end: number): void => {
  const length = end - start
  out.reserve(length + 16)
  const before = out.length
  if (length >= minText) {
    out.number(length * 2 + 1)
    const packed = packRuns(out.array, out.length, from, start, end)
    if (packed >= 0) {
      out.length = packed
      return
    }
    out.length = before
  }
  out.number(length * 2)
  out.copy(from, start, end)
}

/** Where the runs end; -1: they are not shorter than the bytes. */
const packRuns = (array: Uint8Array, to: number, from: Uint8Array, start: number, end: number): number => {
  const limit = to + (end - start)
  let at = to
  let literal = start
  let index = start
  while (index < end) {
    const last = Math.min(end, index + maxRun)
    let runEnd = index
    while (runEnd < last && digits[from[runEnd]!]! < 16) runEnd++
    const run = runEnd - index
    const hasDash = runEnd < end && from[runEnd] === dash
    if (run < minRun && !(hasDash && run >= minRunAndDash)) {
      index = Math.max(runEnd, index + 1)
      continue
    }
    if (at + literalBytes(index - literal) + ((run + 1) >> 1) + 1 > limit) return -1
    at = packLiteral(array, at, from, literal, index)
    array[at++] = (hasDash ? 0xc0 : 0x80) + run - 1
    for (let digit = index; digit < runEnd; digit += 2) {
      const low = digit + 1 < runEnd ? digits[from[digit + 1]!]! : 0
      array[at++] = (digits[from[digit]!]! << 4) | low
    }
    index = hasDash ? runEnd + 1 : runEnd
    literal = index
  }
  if (literal === start || at + literalBytes(end - literal) > limit) return -1
  return packLiteral(array, at, from, literal, end)
}

const literalBytes = (length: number): number => length + Math.ceil(length / maxLiteral)

const packLiteral = (array: Uint8Array, to: number, from: Uint8Array, start: number, end: number): number => {
  let at = to
  for (let index = start; index < end;) {
    const last = Math.min(end, index + maxLiteral)
    array[at++] = last - index - 1
    while (index < last) array[at++] = from[index++]!
  }
  return at
}

/** Steps over a packed text. `header` is its length field, read before. */
export const skipPacked = (reader: Reader, header: number): void => {
  const length = Math.floor(header / 2)
  if (header % 2 === 0) {
    reader.skip(length)
    return
  }
  for (let done = 0; done < length;) {
    const kind = reader.bytes[reader.skip(1)]!
    const run = kind < 0x80 ? kind + 1 : (kind & 0x3f) + 1
    reader.skip(kind < 0x80 ? run : (run + 1) >> 1)
    done += kind >= 0xc0 ? run + 1 : run
    if (done > length) throw cutOff()
  }
}

/** Reads a packed text to a place that has room for it. */
export const unpackTo = (reader: Reader, header: number, array: Uint8Array, to: number): void => {
  const { bytes } = reader
  const length = Math.floor(header / 2)
  const end = to + length
  if (header % 2 === 0) {
    let from = reader.skip(length)
    for (let at = to; at < end; at++) array[at] = bytes[from++]!
    return
  }
  for (let at = to; at < end;) {
    const kind = bytes[reader.skip(1)]!
    const run = kind < 0x80 ? kind + 1 : (kind & 0x3f) + 1
    let from = reader.skip(kind < 0x80 ? run : (run + 1) >> 1)
    const runEnd = at + run
    if (runEnd + (kind >= 0xc0 ? 1 : 0) > end) throw cutOff()
    if (kind < 0x80) {
      while (at < runEnd) array[at++] = bytes[from++]!
    } else {
      while (at + 1 < runEnd) {
        const pair = bytes[from++]!
        array[at++] = digitOf[pair >> 4]!
        array[at++] = digitOf[pair & 15]!
      }
      if (at < runEnd) array[at++] = digitOf[bytes[from]! >> 4]!
      if (kind >= 0xc0) array[at++] = dash
    }
  }
}

/** Whether a packed text is the same as bytes that are not packed. */
export const isPacked = (bytes: Uint8Array, at: number, text: Uint8Array, start: number, end: number): boolean => {
  const length = end - start
  // most lengths take one byte or two
  const first = bytes[at]!
  let from = at + 1
  let header = first
  if (first >= 0x80) {
    const reader = new Reader(bytes, at, bytes.length)
    header = reader.number()
    from = reader.at
  }
  if (Math.floor(header / 2) !== length) return false
  if (header % 2 === 0) {
    for (let index = start; index < end; index++) if (bytes[from++] !== text[index]) return false
    return true
  }
  for (let index = start; index < end;) {
    const kind = bytes[from++]!
    if (kind < 0x80) {
      const last = index + kind + 1
      while (index < last) if (bytes[from++] !== text[index++]) return false
      continue
    }
    const last = index + (kind & 0x3f) + 1
    while (index + 1 < last) {
      const pair = bytes[from++]!
      if (digitOf[pair >> 4] !== text[index++] || digitOf[pair & 15] !== text[index++]) return false
    }
    if (index < last && digitOf[bytes[from++]! >> 4] !== text[index++]) return false
    if (kind >= 0xc0 && text[index++] !== dash) return false
  }
  return true
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** Decodes bytes that must be text. */
export const decodeText = (bytes: Uint8Array, start: number, end: number): string =>
  decoder.decode(bytes.subarray(start, end))

const unpacked = new Bytes(256)

/** Reads a packed text. */
export const unpackText = (reader: Reader, header: number): string => {
  const length = Math.floor(header / 2)
  // a length that lies is found before memory is taken for it: no run stands for more than twice its bytes
  if (length > 2 * (reader.end - reader.at)) throw cutOff()
  unpacked.length = 0
  unpacked.reserve(length)
  unpackTo(reader, header, unpacked.array, 0)
  return decodeText(unpacked.array, 0, length)
}

/** The size of a {@link fingerprint}. */
export const fingerprintBytes = 8

/**
 * Writes 64 bits that stand for bytes. Two that nobody made for it have the same ones in 1 of 1.8e19 cases; who knows this
 * function can make such bytes.
 */
export const fingerprint = (bytes: DataView, start: number, end: number, out: DataView, at: number): void => {
  let a = 0x9e3779b9 ^ (end - start)
  let b = 0x85ebca6b + (end - start)
  let index = start
  for (; index + 4 <= end; index += 4) {
    const word = bytes.getInt32(index, true)
    a = Math.imul(a ^ Math.imul(word, 0xcc9e2d51), 0x1b873593)
    a = (a << 13) | (a >>> 19)
    b = Math.imul(b + Math.imul(word ^ 0x2545f491, 0x27d4eb2f), 0x165667b1)
    b = (b << 17) | (b >>> 15)
  }
  let rest = 0
  for (let shift = 0; index < end; shift += 8) rest |= bytes.getUint8(index++) << shift
  a = Math.imul(a ^ Math.imul(rest, 0xcc9e2d51), 0x1b873593)
  b = Math.imul(b + Math.imul(rest ^ 0x2545f491, 0x27d4eb2f), 0x165667b1)
  out.setInt32(at, mix(a ^ mix(b)), true)
  out.setInt32(at + 4, mix(b + Math.imul(a, 0x9e3779b1)), true)
}

const mix = (value: number): number => {
  let mixed = value
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return mixed ^ (mixed >>> 16)
}
