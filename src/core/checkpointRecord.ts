/**
 * How a record is written down: one head (a text with its own checksum) and parts (the blocks that are too large to
 * stand in it). Shared by the stores that keep bytes under names; all of it is plain functions of values.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import { createHash } from "node:crypto"
import type { Save } from "./recordStore.js"

/** A block of at most this many bytes stands in the head, as long as {@link maxInlineTotal} is kept. */
export const maxInlineBytes: number = 4096
/** How many bytes of blocks a head carries at most: it is rewritten whole by every save. */
export const maxInlineTotal: number = 65_536

/** Where the bytes of a block are. */
export type Place =
  | { readonly _tag: "Inline"; readonly base64: string; readonly length: number }
  | { readonly _tag: "Part"; readonly part: string; readonly length: number; readonly checksum: string }

/** What a head says. */
export interface Head {
  readonly checkpoint: string
  readonly fence: number
  readonly rev: number
  readonly head: string
  readonly places: ReadonlyMap<string, Place>
}

/** Why a head cannot be read. */
export interface Unreadable {
  readonly reason: "Corrupt" | "UnknownFormat"
  readonly problem: string
}

const version = 1
const firstLine = /^effect-periscope checkpoint (\d+) ([0-9a-f]{64})\n/

const sha256 = (...texts: ReadonlyArray<string | Uint8Array>): string =>
  texts.reduce((hash, text) => hash.update(text), createHash("sha256")).digest("hex")

/** The checksum of a block. */
export const checksum = (bytes: Uint8Array): string => sha256(bytes).slice(0, 32)

/**
 * A file-system and key safe name for a checkpoint id: a readable beginning and a hash, so that ids of any length,
 * script and case get different names everywhere.
 */
export const recordName = (checkpoint: string): string => {
  const readable = checkpoint
    .slice(0, 80)
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-/, "")
    .slice(0, 40)
    .replace(/-$/, "")
  // As JSON, because UTF-8 makes all lone surrogates the same.
  const hash = sha256(JSON.stringify(checkpoint)).slice(0, 32)
  return readable === "" ? hash : `${readable}-${hash}`
}

/** Whether a name may be one of {@link recordName}. */
export const isRecordName = (name: string): boolean => /^([a-z0-9-]{1,40}-)?[0-9a-f]{32}$/.test(name)

/** Writes a head: a line with format version and checksum, which all later formats keep, and a line of JSON. */
export const encodeHead = ({ checkpoint, fence, rev, head, places }: Head): string => {
  const blocks = Array.from(places, ([id, place]) =>
    place._tag === "Inline" ? [id, place.base64] : [id, place.part, place.length, place.checksum]
  )
  const body = JSON.stringify({ checkpoint, fence, rev, head, blocks })
  return `effect-periscope checkpoint ${version} ${sha256(`${version}\n`, body)}\n${body}`
}

/** Reads a head back; every flipped, missing or added byte is noticed. */
export const decodeHead = (text: string): Either.Either<Head, Unreadable> => {
  const line = firstLine.exec(text)
  if (line === null) return corrupt(text === "" ? "it is empty" : "it does not begin as a checkpoint does")
  const body = text.slice(line[0].length)
  if (sha256(`${line[1]}\n`, body) !== line[2]) return corrupt("its checksum does not match its contents")
  if (line[1] !== `${version}`) {
    return Either.left({
      reason: "UnknownFormat",
      problem: `it has format ${line[1]}, and this version of effect-periscope reads format ${version}`
    })
  }
  return Either.mapLeft(
    Either.try(() => fromBody(body)),
    () => ({
      reason: "Corrupt" as const,
      problem: "it is no valid JSON"
    })
  )
}

const corrupt = (problem: string): Either.Either<never, Unreadable> => Either.left({ reason: "Corrupt", problem })

type Entry = readonly [id: string, base64: string] | readonly [id: string, part: string, length: number, sum: string]

const fromBody = (body: string): Head => {
  const { checkpoint, fence, rev, head, blocks } = JSON.parse(body)
  const places = (blocks as ReadonlyArray<Entry>).map(([id, text, length, sum]): readonly [string, Place] => [
    id,
    length === undefined || sum === undefined
      ? { _tag: "Inline", base64: text, length: Buffer.byteLength(text, "base64") }
      : { _tag: "Part", part: text, length, checksum: sum }
  ])
  return { checkpoint, fence, rev, head, places: new Map(places) }
}

/** The bytes of a block that stands in the head. */
export const inlineBytes = (base64: string): Uint8Array => new Uint8Array(Buffer.from(base64, "base64"))

/** What a save has to do: the parts to write first, the head to put in place, the parts to delete afterwards. */
export interface Plan {
  readonly head: Head
  readonly write: ReadonlyArray<readonly [part: string, bytes: Uint8Array]>
  readonly remove: ReadonlyArray<string>
}

/**
 * Plans a save. A part is named by fence and revision of the save that writes it, so that no name is ever written twice
 * and nothing that a stored head refers to is overwritten.
 */
export const plan = (
  checkpoint: string,
  fence: number,
  old: ReadonlyMap<string, Place>,
  { rev, head, put, drop }: Save
): Plan => {
  const places = new Map(old)
  const remove: Array<string> = []
  const dropBlock = (id: string) => {
    const place = places.get(id)
    if (place?._tag === "Part") remove.push(place.part)
    places.delete(id)
  }
  for (const id of drop) dropBlock(id)
  for (const [id] of put) dropBlock(id)
  let inline = 0
  for (const place of places.values()) if (place._tag === "Inline") inline += place.length
  const write = new Map<string, readonly [part: string, bytes: Uint8Array]>()
  for (const [id, bytes] of new Map(put)) {
    if (bytes.length <= maxInlineBytes && inline + bytes.length <= maxInlineTotal) {
      inline += bytes.length
      const base64 = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64")
      places.set(id, { _tag: "Inline", base64, length: bytes.length })
    } else {
      const part = `part.${fence}.${rev}.${write.size}`
      write.set(id, [part, bytes])
      places.set(id, { _tag: "Part", part, length: bytes.length, checksum: checksum(bytes) })
    }
  }
  return { head: { checkpoint, fence, rev, head, places }, write: Array.from(write.values()), remove }
}

/** The parts that a head refers to. */
export const partsOf = (places: ReadonlyMap<string, Place>): ReadonlySet<string> => {
  const parts = new Set<string>()
  for (const place of places.values()) if (place._tag === "Part") parts.add(place.part)
  return parts
}

/** Why the bytes of a part are not the ones that were saved, or undefined. */
export const damage = (place: Extract<Place, { _tag: "Part" }>, bytes: Uint8Array): string | undefined =>
  bytes.length !== place.length
    ? `it has ${bytes.length} bytes instead of ${place.length}`
    : checksum(bytes) !== place.checksum
      ? "its checksum does not match its contents"
      : undefined
