/**
 * The folders and files of a WebDAV server by their keys: addresses, and what PROPFIND says of them.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Exchange, Request, Response } from "./davExchange.js"
import type { Resource } from "./multistatus.js"
import { makeReader } from "./multistatus.js"
import type { ObjectMeta, ObjectStoreError } from "./ObjectStore.js"
import type { Operation } from "./storeFailure.js"
import type { Level } from "./treeWalk.js"

const question = new TextEncoder().encode(
  `<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/><getetag/><getlastmodified/></prop></propfind>`
)

/** What is at an address. */
export type Found = { readonly _tag: "File"; readonly meta: ObjectMeta } | { readonly _tag: "Folder" }

export interface DavTree {
  /** The address of a key; of a folder with a slash at the end. */
  readonly urlOf: (key: string) => string
  /** Looks at one key; undefined where there is nothing. */
  readonly look: (operation: Operation, key: string) => Effect.Effect<Found | undefined, ObjectStoreError>
  /** Fails unless the root is a folder. */
  readonly checkRoot: (operation: Operation, key?: string) => Effect.Effect<void, ObjectStoreError>
  /** Reads a folder by its key, with a slash at the end or empty; undefined where there is none. */
  readonly read: (folder: string) => Effect.Effect<Level<ObjectStoreError> | undefined, ObjectStoreError>
  /** Whether an answer sends an address to the same one with a slash at its end, which only a folder has. */
  readonly isFolderRedirect: (request: Request, response: Response) => boolean
}

const isGone = (status: number): boolean => status === 404 || status === 410

/**
 * The names on the way of an address or path, decoded; a slash at the end counts for nothing. None: it cannot be read. A raw "?" or
 * "#" would end the path: of a name that holds one, another key would be left.
 */
const segmentsOf = (href: string): Option.Option<ReadonlyArray<string>> => {
  const path = href.replace(/^https?:\/\/[^/]*/i, "")
  if (/[?#]/.test(path)) return Option.none()
  return Option.liftThrowable(() =>
    path
      .replace(/^\//, "")
      .replace(/\/$/, "")
      .split("/")
      .map((segment) => decodeURIComponent(segment))
  )()
}

/** What a redirect tells of a folder. */
const folderAt = (href: string): Resource => ({
  href,
  status: 200,
  isFolder: true,
  size: undefined,
  etag: undefined,
  lastModifiedMillis: undefined
})

/** Whether a path is another one with more behind it, and how much. */
const below = (path: ReadonlyArray<string>, base: ReadonlyArray<string>): ReadonlyArray<string> | undefined =>
  base.every((segment, n) => path[n] === segment) ? path.slice(base.length) : undefined

export const makeDavTree = ({ body, fail, refused, send }: Exchange, root: URL): DavTree => {
  const rootPath = Option.getOrThrow(segmentsOf(root.pathname)).filter((segment) => segment !== "")

  const urlOf = (key: string): string => root.href + key.split("/").map(encodeURIComponent).join("/")

  const pathOf = (key: string): ReadonlyArray<string> => [
    ...rootPath,
    ...key.split("/").filter((segment) => segment !== "")
  ]

  const readAnswer = (request: Request, response: Response): Effect.Effect<ReadonlyArray<Resource>, ObjectStoreError> =>
    Effect.suspend(() => {
      const reader = makeReader()
      const problem = ({ detail, reason }: { readonly detail: string; readonly reason: string }) =>
        reason === "NoListing"
          ? fail(request, "MissingContainer", `${detail}; there is no WebDAV folder at this address.`)
          : fail(request, reason === "Truncated" ? "Truncated" : "Decode", `${detail}.`)
      return Effect.flatMap(
        Stream.runForEach(body(request, response), (bytes) => {
          const error = reader.write(bytes)
          return error === undefined ? Effect.void : Effect.fail(problem(error))
        }),
        () => Either.mapLeft(reader.end(), problem)
      )
    })

  const isFolderRedirect: DavTree["isFolderRedirect"] = ({ url }, { headers, status }) => {
    const location = headers["location"]
    if (status < 300 || status >= 400 || location === undefined || !URL.canParse(location, url)) return false
    const asked = new URL(url)
    const target = new URL(location, url)
    // any other one says nothing of the folder: a login in front of it sends the whole address on
    if (target.origin !== asked.origin || target.search !== "" || asked.pathname.endsWith("/")) return false
    // servers encode other characters than we do
    const [from, to] = [asked, target].map(({ pathname }) => Option.getOrUndefined(segmentsOf(pathname)))
    return target.pathname.endsWith("/") && from !== undefined && from.join("/") === to?.join("/")
  }

  /** Asks for the properties of a key and, with depth 1, of what is in it. */
  const propfind = (operation: Operation, key: string, depth: "0" | "1") => {
    const request: Request = {
      operation,
      key: operation === "listPage" ? undefined : key,
      method: "PROPFIND",
      url: urlOf(key),
      headers: { depth },
      body: { bytes: question, contentType: 'application/xml; charset="utf-8"' }
    }
    return send(request, (response): Effect.Effect<ReadonlyArray<Resource> | undefined, ObjectStoreError> => {
      if (response.status === 207) return readAnswer(request, response)
      if (isFolderRedirect(request, response)) {
        return Effect.as(Effect.ignore(refused(request, response)), [folderAt(request.url)])
      }
      return isGone(response.status)
        ? Effect.as(Effect.ignore(refused(request, response)), undefined)
        : refused(request, response)
    }).pipe(Effect.map((resources) => ({ request, resources })))
  }

  /** What a resource is; undefined where it is gone. */
  const classify = (
    request: Request,
    key: string,
    { etag, isFolder, lastModifiedMillis, size, status }: Resource
  ): Effect.Effect<Found | undefined, ObjectStoreError> => {
    const place = JSON.stringify(key)
    if (isGone(status)) return Effect.succeed(undefined)
    if (status === 401 || status === 403) {
      return Effect.fail(fail(request, "Unauthorized", `may not look at ${place} (${status}).`, { status }))
    }
    if (status < 200 || status >= 300) {
      return Effect.fail(fail(request, "Status", `was answered with ${status} for ${place}.`, { status }))
    }
    if (isFolder === true) return Effect.succeed({ _tag: "Folder" })
    if (isFolder === undefined || size === undefined) {
      return Effect.fail(
        fail(request, "Decode", `was not told ${isFolder === undefined ? "the type" : "the size"} of ${place}.`)
      )
    }
    const meta = {
      key,
      size,
      // Apache calls an ETag weak for the first second, then strong: it is the same state
      ...(etag === undefined ? {} : { etag: etag.replace(/^W\//, "") }),
      ...(lastModifiedMillis === undefined ? {} : { lastModifiedMillis })
    }
    return Effect.succeed({ _tag: "File", meta })
  }

  /** Where a resource is, as names behind the given place. */
  const place = (request: Request, { href }: Resource, base: ReadonlyArray<string>) => {
    const segments = segmentsOf(href)
    if (Option.isNone(segments)) {
      return Effect.fail(
        fail(
          request,
          "InvalidRequest",
          `found a name that cannot be read: it is not UTF-8, or the server sent its "?" or "#" as it is; rename it.`
        )
      )
    }
    const path = segments.value.length === 1 && segments.value[0] === "" ? [] : segments.value
    return path.some((segment) => segment.includes("/"))
      ? Effect.fail(fail(request, "Decode", "was sent a name with a slash in it."))
      : Effect.succeed(below(path, base))
  }

  /** The resource that was asked for, and those right in it by name. */
  const sorted = (request: Request, key: string, resources: ReadonlyArray<Resource>) =>
    Effect.gen(function* () {
      let self: Found | undefined
      let isThere = false
      const inside = new Map<string, Found>()
      for (const resource of resources) {
        const names = yield* place(request, resource, pathOf(key))
        if (names === undefined || names.length > 1) continue
        const name = names[0] ?? ""
        const found = yield* classify(request, name === "" ? key : key + name, resource)
        if (name === "") {
          isThere = true
          self = found
        } else if (found !== undefined) inside.set(found._tag === "Folder" ? `${name}/` : name, found)
      }
      if (!isThere) return yield* fail(request, "Decode", "was sent what is at another address.")
      return { self, inside }
    })

  const look: DavTree["look"] = (operation, key) =>
    Effect.flatMap(propfind(operation, key, "0"), ({ request, resources }) =>
      resources === undefined
        ? Effect.succeed(undefined)
        : Effect.map(sorted(request, key, resources), ({ self }) => self)
    )

  const checkRoot: DavTree["checkRoot"] = (operation, key) =>
    Effect.flatMap(propfind(operation, "", "0"), ({ request: asked, resources }) => {
      const request = { ...asked, key }
      const missing = fail(request, "MissingContainer", "found no folder there; check the address, or make it.")
      return resources === undefined
        ? Effect.fail(missing)
        : Effect.flatMap(sorted(request, "", resources), ({ self }) =>
            self?._tag === "Folder" ? Effect.void : Effect.fail(missing)
          )
    })

  const read: DavTree["read"] = (folder) =>
    Effect.gen(function* () {
      const { request, resources } = yield* propfind("listPage", folder, "1").pipe(
        Effect.catchIf(
          // servers differ in what they say of a folder that is a file
          ({ reason }) => folder !== "" && reason === "InvalidRequest",
          (error) =>
            Effect.flatMap(look("listPage", folder.slice(0, -1)), (found) =>
              found?._tag === "Folder"
                ? Effect.fail(error)
                : Effect.succeed({ request: undefined, resources: undefined })
            )
        )
      )
      if (request === undefined || resources === undefined) return undefined
      const { inside, self } = yield* sorted(request, folder, resources)
      if (self?._tag !== "Folder") return undefined
      const level: Level<ObjectStoreError> = {
        names: [...inside.keys()],
        objects: (names) =>
          Effect.succeed(
            names.map((name) => {
              const found = inside.get(name)
              return found?._tag === "File" ? found.meta : undefined
            })
          ),
        enter: (name) => read(folder + name)
      }
      return level
    })

  return { urlOf, look, checkRoot, read, isFolderRedirect }
}
