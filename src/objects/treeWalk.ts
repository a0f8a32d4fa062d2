/**
 * Walks a tree of folders in the order of its keys' UTF-8 bytes, page by page, and can go on from any key.
 *
 * Memory is bounded by the entries of one folder a level. What comes and goes meanwhile is found or not; what is there throughout
 * is found once.
 */
import * as Effect from "effect/Effect"
import type { ObjectMeta } from "./ObjectStore.js"
import { compareUtf8 } from "./utf8Order.js"

/** A folder that was read. */
export interface Level<E> {
  /** What is in it, in any order; names of folders end in a slash. */
  readonly names: ReadonlyArray<string>
  /** The objects of some of its names, undefined where there is none any more. */
  readonly objects: (names: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<ObjectMeta | undefined>, E>
  /** Reads the folder of one of its names; undefined where it is gone, or would lead in a circle. */
  readonly enter: (name: string) => Effect.Effect<Level<E> | undefined, E>
}

/** One folder of the way down: `names[index]` is the next one. */
interface Frame<E> {
  /** Its key with a slash at the end; empty for the root. */
  readonly folder: string
  /** Sorted as the keys are. */
  readonly names: ReadonlyArray<string>
  index: number
  readonly level: Level<E>
}

export interface Page {
  readonly objects: ReadonlyArray<ObjectMeta>
  /** The key to go on from, itself included; without it the walk is over. */
  readonly next: string | undefined
  /** Whether something was gone when it was looked at. */
  readonly hasVanished: boolean
}

export interface Walk<E> {
  readonly page: (size: number) => Effect.Effect<Page, E>
}

/** Sorts as the keys are: a folder by its name with a slash, so that `a-b` comes before `a/b`. */
const sorted = (names: Array<string>): ReadonlyArray<string> =>
  // below the surrogates both orders are the same, and the one of the engine is faster
  names.some((name) => /[\ud800-\uffff]/.test(name)) ? names.sort(compareUtf8) : names.sort()

/** The index of the first name that is not before `bound`. */
const lowerBound = (names: ReadonlyArray<string>, bound: string): number => {
  let low = 0
  let high = names.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (compareUtf8(names[middle]!, bound) < 0) low = middle + 1
    else high = middle
  }
  return low
}

/** How many files are looked at together, whatever the size of a page. */
const batchSize = 1000

/** The folders that lead to a prefix, with the slash behind the last one. */
export const folderOf = (prefix: string): string => prefix.slice(0, prefix.lastIndexOf("/") + 1)

/**
 * Opens a walk over the keys that begin with `prefix`, from `bound` on, which begins with `prefix` too. `start` reads the
 * {@link folderOf} the prefix.
 */
export const open = <E>(
  start: Effect.Effect<Level<E> | undefined, E>,
  prefix: string,
  bound: string
): Effect.Effect<Walk<E>, E> =>
  Effect.gen(function* () {
    const frames: Array<Frame<E>> = []
    let hasVanished = false

    const push = (folder: string, level: Level<E> | undefined, rest: string, from: string): void => {
      if (level === undefined) {
        hasVanished = true
        return
      }
      const names = sorted(level.names.filter((name) => name.startsWith(rest)))
      frames.push({ folder, names, index: lowerBound(names, from), level })
    }

    /** Goes down to the bound, so that each frame stands behind the folder that the next one is. */
    const first = folderOf(prefix)
    push(first, yield* start, prefix.slice(first.length), bound.slice(first.length))
    while (true) {
      const top = frames[frames.length - 1]
      if (top === undefined) break
      const left = bound.slice(top.folder.length)
      const before = top.names[top.index - 1]
      if (before === undefined || !before.endsWith("/") || !left.startsWith(before)) break
      const depth = frames.length
      push(top.folder + before, yield* top.level.enter(before), "", left.slice(before.length))
      if (frames.length === depth) break
    }

    const page: Walk<E>["page"] = (size) =>
      Effect.gen(function* () {
        const objects: Array<ObjectMeta> = []
        while (objects.length < size) {
          const top = frames[frames.length - 1]
          if (top === undefined) break
          const { folder, index, level, names } = top
          if (index === names.length) {
            frames.pop()
            continue
          }
          if (names[index]!.endsWith("/")) {
            top.index++
            push(folder + names[index]!, yield* level.enter(names[index]!), "", "")
            continue
          }
          const end = Math.min(names.length, index + Math.min(batchSize, size - objects.length))
          while (top.index < end && !names[top.index]!.endsWith("/")) top.index++
          for (const object of yield* level.objects(names.slice(index, top.index))) {
            if (object === undefined) hasVanished = true
            else objects.push(object)
          }
        }
        while (frames.length > 0 && frames[frames.length - 1]!.index === frames[frames.length - 1]!.names.length) {
          frames.pop()
        }
        const top = frames[frames.length - 1]
        const vanished = hasVanished
        hasVanished = false
        return { objects, next: top && top.folder + top.names[top.index]!, hasVanished: vanished }
      })

    return { page }
  })
