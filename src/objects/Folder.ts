/**
 * An object store over a local folder: each file is an object, its key the path within the folder.
 *
 * It lists in the order of the keys' UTF-8 bytes, as the clouds do. A file that is replaced, written or touched is another version;
 * a change of its permissions is not. A put shows up whole or not at all. Nothing outside of the folder is ever written.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import type * as Tracer from "effect/Tracer"
import * as path from "node:path"
import { pathToFileURL } from "node:url"
import { disk } from "./disk.js"
import { makeFiles } from "./folderFiles.js"
import { makeListPage } from "./folderListing.js"
import * as ObjectStore from "./ObjectStore.js"

/**
 * Which folder, and how.
 *
 * - `root`: the folder. It has to be there: one that is missing, perhaps not mounted, is an error and not an empty store.
 * - `identity`: names the store [`file://` and the absolute path].
 * - `followSymlinks`: whether a link counts as what it leads to, also outside of the folder [false: links are no objects]. A
 *   circle ends where it closes. Kubernetes mounts the files of a ConfigMap as links.
 * - `sync`: whether a put waits until the disk has the bytes [false: a power cut can lose the last ones].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly root: string
  readonly identity?: string | undefined
  readonly followSymlinks?: boolean | undefined
  readonly sync?: boolean | undefined
}

/**
 * Makes a store over a folder.
 *
 * **Details** `version` is the time of the last write in nanoseconds, the size and the inode. Sockets, pipes and devices are no
 * objects, and neither are empty folders. `put` writes a file beside, which no listing shows, then renames it; folders on the way are
 * made. `remove` leaves the folder behind, even empty. A page holds 10,000 objects at most. The walks of the last 64 pages are kept
 * open; any other token goes on by its key, also in another process.
 *
 * **Gotchas** What one folder cannot hold is refused with `InvalidRequest`: `a` beside `a/b`, a key with `.`, `..` or nothing
 * between slashes, names of more than 255 bytes. Where the file system takes two spellings for one name, so does the store. The
 * entries of one folder a level are held in memory while its pages are read. Putting never goes through a link.
 *
 * **Errors** `MissingContainer`: no such folder. `Unauthorized`: a folder that may not be read makes the whole listing fail, as
 * what is in it is not known. `InvalidRequest`: also a name that is not UTF-8; it fails the listing of its folder until it is
 * renamed. `StaleToken`: a token of something else, or another folder is in its place now. `Io`: the disk failed. A root that is
 * empty or holds NUL throws at construction.
 *
 * **Example**
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { Folder } from "effect-periscope/objects"
 * import { mkdtempSync } from "node:fs"
 * import { tmpdir } from "node:os"
 *
 * const program = Effect.gen(function* () {
 *   const store = yield* Folder.make({ root: mkdtempSync(`${tmpdir()}/folder-`) })
 *   yield* store.put("conf/a", "1")
 *   yield* store.put("conf-old", "0")
 *   return yield* Stream.runCollect(store.list())
 * })
 *
 * const found = await Effect.runPromise(program)
 * Array.from(found, ({ key }) => key) // => ["conf-old", "conf/a"]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<Context.Tag.Service<ObjectStore.ObjectStore>> => {
  const settings = check(options)
  return Effect.sync(() => ObjectStore.make(backend(settings)))
}

/**
 * Provides a store over a folder.
 *
 * **Example**
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { Folder, ObjectStore } from "effect-periscope/objects"
 *
 * const count = Effect.flatMap(ObjectStore.ObjectStore, (store) => Stream.runCount(store.list({ prefix: "conf/" })))
 *
 * const program = Effect.provide(count, Folder.layer({ root: "/srv/reports" }))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<ObjectStore.ObjectStore> =>
  Layer.effect(ObjectStore.ObjectStore, make(options))

/**
 * Provides a store over a folder that the configuration names.
 *
 * **Errors** `ConfigError` when something is missing, or is nothing that the constructor takes.
 *
 * **Example**
 * ```ts
 * import { Config } from "effect"
 * import { Folder } from "effect-periscope/objects"
 *
 * const ReportsLive = Folder.layerConfig({ root: Config.string("REPORTS_FOLDER") })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Config.Wrap<Options>
): Layer.Layer<ObjectStore.ObjectStore, ConfigError.ConfigError> =>
  Layer.unwrapEffect(
    Effect.flatMap(Config.unwrap(config), (options) =>
      Effect.try({
        try: () => layer(options),
        catch: (error) => ConfigError.InvalidData([], error instanceof Error ? error.message : "Folder: not valid.")
      })
    )
  )

type Settings = Required<{ readonly [K in keyof Options]: Exclude<Options[K], undefined> }>

const check = ({ followSymlinks = false, identity, root, sync = false }: Options): Settings => {
  if (root === "" || root.includes("\0")) {
    throw new Error(`Folder: \`root\` is ${JSON.stringify(root)}; it must be the path of a folder.`)
  }
  const absolute = path.resolve(root)
  return { root: absolute, identity: identity ?? pathToFileURL(absolute).href, followSymlinks, sync }
}

const backend = (settings: Settings): ObjectStore.Backend => {
  const { identity } = settings
  const span: Tracer.SpanOptions = { attributes: { "periscope.store": identity }, captureStackTrace: false }
  const { get, head, put, remove } = makeFiles(settings)
  const listPage = makeListPage(disk, settings)
  return {
    identity,
    listPage: (options) => Effect.withSpan(listPage(options), "Folder.listPage", span),
    head: (key) => Effect.withSpan(head(key), "Folder.head", span),
    get: (key) => Stream.withSpan(get(key), "Folder.get", span),
    put: (key, content) => Effect.withSpan(put(key, content), "Folder.put", span),
    remove: (key) => Effect.withSpan(remove(key), "Folder.remove", span)
  }
}
