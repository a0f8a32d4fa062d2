/**
 * Walks a folder in the order of its keys' UTF-8 bytes, page by page, and can go on from any key.
 *
 * Memory is bounded by the entries of one folder a level. What comes and goes meanwhile is found or not; what is there throughout
 * is found once.
 */
import * as Effect from "effect/Effect"
import type { Disk, Entry, Stat } from "./disk.js"
import { DiskError } from "./disk.js"
import type { ObjectMeta } from "./ObjectStore.js"
import { compareUtf8 } from "./utf8Order.js"

export interface WalkOptions {
  /** The real path of the root, without a slash at its end. */
  readonly root: string
  readonly followSymlinks: boolean
}

/** One folder of the way down: `entries[index]` is the next one. */
interface Frame {
  /** Its key with a slash at the end; empty for the root. */
  readonly folder: string
  /** Names, those of folders with a slash at the end; sorted as the keys are. */
  readonly entries: ReadonlyArray<string>
  index: number
  /** The folders above it and itself, where links could lead back to one. */
  readonly above: ReadonlyArray<string>
}

export interface Page {
  readonly objects: ReadonlyArray<ObjectMeta>
  /** The key to go on from, itself included; without it the walk is over. */
  readonly next: string | undefined
  /** Whether something was gone when it was looked at. */
  readonly hasVanished: boolean
}

export interface Walk {
  readonly page: (size: number) => Effect.Effect<Page, DiskError>
}

/** A file that is being written. */
export const isTemporary = (name: string): boolean => /^\.periscope-[0-9a-f]{16}\.tmp$/.test(name)

/** The object that a file is. */
export const metaOf = (key: string, { ino, mtimeNs, size }: Stat): ObjectMeta => ({
  key,
  size: Number(size),
  lastModifiedMillis: Number(mtimeNs / 1_000_000n),
  version: `${mtimeNs}-${size}-${ino}`
})

/** Whether there is nothing of this name, perhaps any more: not even behind a link, which may also lead in a circle. */
export const isVanished = ({ code }: DiskError): boolean => code === "ENOENT" || code === "ENOTDIR" || code === "ELOOP"

/** Sorts as the keys are: a folder by its name with a slash, so that `a-b` comes before `a/b`. */
const sorted = (entries: Array<string>): ReadonlyArray<string> =>
  // below the surrogates both orders are the same, and the one of the engine is faster
  entries.some((entry) => /[\ud800-\uffff]/.test(entry)) ? entries.sort(compareUtf8) : entries.sort()

/** The index of the first entry that is not before `bound`. */
const lowerBound = (entries: ReadonlyArray<string>, bound: string): number => {
  let low = 0
  let high = entries.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (compareUtf8(entries[middle]!, bound) < 0) low = middle + 1
    else high = middle
  }
  return low
}

/** How many files are looked at together, whatever the size of a page. */
const batchSize = 1000

/**
 * Opens a walk over the keys that begin with `prefix`, from `bound` on, which begins with `prefix` too. Segments of the prefix are
 * checked by the caller.
 */
export const open = (
  disk: Disk,
  { followSymlinks, root }: WalkOptions,
  prefix: string,
  bound: string
): Effect.Effect<Walk, DiskError> =>
  Effect.gen(function* () {
    const frames: Array<Frame> = []
    let vanished = false

    const pathOf = (key: string): string => `${root}/${key}`

    /** What a vanished thing is taken for; other failures stay. */
    const orVanished = <A, B>(effect: Effect.Effect<A, DiskError>, instead: B): Effect.Effect<A | B, DiskError> =>
      Effect.catchIf(effect, isVanished, () => {
        vanished = true
        return Effect.succeed(instead)
      })

    /** Which links are files and which are folders; those that lead nowhere or in a circle are neither. */
    const followed = (folder: string, links: ReadonlyArray<Entry>): Effect.Effect<ReadonlyArray<string>, DiskError> =>
      Effect.flatMap(
        disk.statAll(
          links.map(({ name }) => pathOf(folder + name)),
          true
        ),
        (stats) => {
          const entries: Array<string> = []
          for (const [n, stat] of stats.entries()) {
            if (stat instanceof DiskError) {
              if (isVanished(stat)) continue
              return Effect.fail(stat)
            }
            if (stat.isDirectory()) entries.push(`${links[n]!.name}/`)
            else if (stat.isFile()) entries.push(links[n]!.name)
          }
          return Effect.succeed(entries)
        }
      )

    /** The folder's own place, or undefined where one above it is the same: a circle. */
    const place = (folder: string, above: ReadonlyArray<string>) =>
      followSymlinks
        ? Effect.map(disk.stat(pathOf(folder), true), ({ dev, ino }) => {
            const id = `${dev}:${ino}`
            return above.includes(id) ? undefined : [...above, id]
          })
        : Effect.succeed<ReadonlyArray<string> | undefined>(above)

    /** Reads a folder and puts it on top, where its names begin with `rest` and are not before `from`. */
    const push = (folder: string, rest: string, from: string, parents: ReadonlyArray<string>) =>
      Effect.gen(function* () {
        const above = yield* orVanished(place(folder, parents), undefined)
        if (above === undefined) return
        const listed = yield* orVanished(disk.readdir(pathOf(folder)), [])
        const entries: Array<string> = []
        const links: Array<Entry> = []
        for (const entry of listed) {
          if (entry.kind === "folder") entries.push(`${entry.name}/`)
          else if (entry.kind === "file" && !isTemporary(entry.name)) entries.push(entry.name)
          else if (entry.kind === "link" && followSymlinks) links.push(entry)
        }
        if (links.length > 0) entries.push(...(yield* followed(folder, links)))
        const wanted = sorted(rest === "" ? entries : entries.filter((entry) => entry.startsWith(rest)))
        frames.push({ folder, entries: wanted, index: lowerBound(wanted, from), above })
      })

    /** Goes down to the bound, so that each frame stands behind the folder that the next one is. */
    const descend = (folder: string, rest: string, from: string, parents: ReadonlyArray<string>) =>
      Effect.gen(function* () {
        yield* push(folder, rest, from, parents)
        while (true) {
          const top = frames[frames.length - 1]
          if (top === undefined) return
          const left = bound.slice(top.folder.length)
          const before = top.entries[top.index - 1]
          if (before === undefined || !before.endsWith("/") || !left.startsWith(before)) return
          const depth = frames.length
          yield* push(top.folder + before, "", left.slice(before.length), top.above)
          if (frames.length === depth) return
        }
      })

    const page: Walk["page"] = (size) =>
      Effect.gen(function* () {
        const objects: Array<ObjectMeta> = []
        vanished = false
        while (objects.length < size) {
          const top = frames[frames.length - 1]
          if (top === undefined) break
          const { above, entries, folder, index } = top
          if (index === entries.length) {
            frames.pop()
            continue
          }
          if (entries[index]!.endsWith("/")) {
            top.index++
            yield* push(folder + entries[index]!, "", "", above)
            continue
          }
          const end = Math.min(entries.length, index + Math.min(batchSize, size - objects.length))
          const keys: Array<string> = []
          while (top.index < end && !entries[top.index]!.endsWith("/")) keys.push(folder + entries[top.index++]!)
          const stats = yield* disk.statAll(keys.map(pathOf), followSymlinks)
          for (const [n, stat] of stats.entries()) {
            if (!(stat instanceof DiskError)) {
              if (stat.isFile()) objects.push(metaOf(keys[n]!, stat))
            } else if (isVanished(stat)) vanished = true
            else return yield* stat
          }
        }
        while (frames.length > 0 && frames[frames.length - 1]!.index === frames[frames.length - 1]!.entries.length) {
          frames.pop()
        }
        const top = frames[frames.length - 1]
        const next = top === undefined ? undefined : top.folder + top.entries[top.index]!
        return { objects, next, hasVanished: vanished }
      })

    const start = prefix.slice(0, prefix.lastIndexOf("/") + 1)
    yield* descend(start, prefix.slice(start.length), bound.slice(start.length), [])
    return { page }
  })
