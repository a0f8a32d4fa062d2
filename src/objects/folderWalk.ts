/**
 * Reads the folders of a disk for a walk: files with their metadata, links where they count, no circles.
 */
import * as Effect from "effect/Effect"
import type { Disk, Entry, Stat } from "./disk.js"
import { DiskError } from "./disk.js"
import type { ObjectMeta } from "./ObjectStore.js"
import type { Level } from "./treeWalk.js"

export interface WalkOptions {
  /** The path of the root. */
  readonly root: string
  readonly followSymlinks: boolean
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

export type DiskLevel = Level<DiskError>

/**
 * Reads a folder by its key, with a slash at the end or empty; undefined where it is gone. `above` are the folders on the way,
 * where links could lead back to one.
 */
export const readFolder =
  (disk: Disk, { followSymlinks, root }: WalkOptions) =>
  (folder: string, above: ReadonlyArray<string> = []): Effect.Effect<DiskLevel | undefined, DiskError> => {
    const pathOf = (name: string): string => `${root}/${folder}${name}`

    /** Which links are files and which are folders; those that lead nowhere or in a circle are neither. */
    const followed = (links: ReadonlyArray<Entry>): Effect.Effect<ReadonlyArray<string>, DiskError> =>
      Effect.flatMap(
        disk.statAll(
          links.map(({ name }) => pathOf(name)),
          true
        ),
        (stats) => {
          const names: Array<string> = []
          for (const [n, stat] of stats.entries()) {
            if (stat instanceof DiskError) {
              if (!isVanished(stat)) return Effect.fail(stat)
            } else if (stat.isDirectory()) names.push(`${links[n]!.name}/`)
            else if (stat.isFile()) names.push(links[n]!.name)
          }
          return Effect.succeed(names)
        }
      )

    /** The way with this folder on it, or undefined where it is there already: a circle. */
    const way: Effect.Effect<ReadonlyArray<string> | undefined, DiskError> = followSymlinks
      ? Effect.map(disk.stat(pathOf(""), true), ({ dev, ino }) => {
          const id = `${dev}:${ino}`
          return above.includes(id) ? undefined : [...above, id]
        })
      : Effect.succeed(above)

    const objects: DiskLevel["objects"] = (names) =>
      Effect.flatMap(disk.statAll(names.map(pathOf), followSymlinks), (stats) => {
        const metas: Array<ObjectMeta | undefined> = []
        for (const [n, stat] of stats.entries()) {
          if (!(stat instanceof DiskError)) metas.push(stat.isFile() ? metaOf(folder + names[n]!, stat) : undefined)
          else if (isVanished(stat)) metas.push(undefined)
          else return Effect.fail(stat)
        }
        return Effect.succeed(metas)
      })

    return Effect.gen(function* () {
      const below = yield* way
      if (below === undefined) return
      const names: Array<string> = []
      const links: Array<Entry> = []
      for (const entry of yield* disk.readdir(pathOf(""))) {
        if (entry.kind === "folder") names.push(`${entry.name}/`)
        else if (entry.kind === "file" && !isTemporary(entry.name)) names.push(entry.name)
        else if (entry.kind === "link" && followSymlinks) links.push(entry)
      }
      if (links.length > 0) names.push(...(yield* followed(links)))
      const enter = (name: string) => readFolder(disk, { followSymlinks, root })(folder + name, below)
      return { names, objects, enter }
    }).pipe(Effect.catchIf(isVanished, () => Effect.succeed(undefined)))
  }
