/**
 * Reads `[NAME=]<source>`. What it says about one never shows user info, query or fragment: they may be secrets.
 */
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import type { Log } from "./logUri.js"
import * as logUri from "./logUri.js"
import type { TapAddress } from "./tapUri.js"
import * as tapUri from "./tapUri.js"

/** What every source has. `name` tells it from the others: its address without secrets where none was given. */
interface Named {
  readonly name: string
  readonly isNamed: boolean
  /** Without user info, query and fragment. */
  readonly publicUrl: string
}

/** An address to be polled over HTTP; `url` is whole. */
export interface HttpTarget extends Named {
  readonly kind: "http"
  readonly url: URL
}

/** A bucket or container of a cloud. Keys begin with `prefix`, as it was written. */
export interface Bucket {
  readonly store: "s3" | "gs" | "az"
  readonly container: string
  readonly prefix: string
}

/** Where objects are. The address of a WebDAV folder is whole; a local folder is an absolute path. */
export type Place =
  Bucket | { readonly store: "dav"; readonly url: URL } | { readonly store: "folder"; readonly path: string }

/** Objects to be listed. */
export interface ObjectsTarget extends Named {
  readonly kind: "objects"
  readonly place: Place
}

/** A table whose entries are read in order. */
export interface LogTarget extends Named {
  readonly kind: "log"
  readonly log: Log
}

/** A server whose events are followed. */
export interface TapTarget extends Named {
  readonly kind: "tap"
  readonly address: TapAddress
}

/** A WebSocket whose frames are followed; `url` is whole. */
export interface WsTarget extends Named {
  readonly kind: "ws"
  readonly url: URL
}

export type Target = HttpTarget | ObjectsTarget | LogTarget | TapTarget | WsTarget

/** Who gets the headers of a source; none for what is not asked over plain HTTP. */
export const originOf = (target: Target): string | undefined => {
  if (target.kind === "http" || target.kind === "ws") return target.url.origin
  return target.kind === "objects" && target.place.store === "dav" ? target.place.url.origin : undefined
}

/** Whether the address of a WebDAV server has user info. */
export const hasUser = ({ place }: ObjectsTarget): boolean =>
  place.store === "dav" && (place.url.username !== "" || place.url.password !== "")

const works =
  "http(s)://, s3://, gs://, az://, dav(s)://, sqlite:, postgres://, tap(s)://, ws(s)://, file:/// and paths such as ./dir work"

/** A target, or a sentence that says what to write instead. */
export const parse = (argument: string): Either.Either<Target, string> => {
  const named = /^([^=:/?#@]*)=(.*)$/s.exec(argument)
  const name = named?.[1]
  const source = named?.[2] ?? argument
  if (name !== undefined && !isName(name)) {
    return Either.left(
      `${JSON.stringify(name)} cannot name a source; use letters, digits, "-", "_" and "." in front of the "="`
    )
  }
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(source)?.[1]?.toLowerCase()
  if (scheme === undefined) {
    return /^(\.{0,2}\/|\.{1,2}$)/.test(source)
      ? plainPath(source, name)
      : Either.left(
          `${JSON.stringify(publicPart(source))} is no source; write an address with its scheme, such as https://example.com/config.json, or a folder as ./dir`
        )
  }
  switch (scheme) {
    case "http":
    case "https":
      return http(source, name)
    case "s3":
    case "gs":
    case "az":
      return bucket(scheme, source, name)
    case "dav":
    case "davs":
      return dav(scheme, source, name)
    case "file":
      return file(source, name)
    case "sqlite":
      return Either.map(logUri.sqlite(source), (parsed) => log(parsed, name))
    case "postgres":
    case "postgresql":
      return Either.map(logUri.postgres(source), (parsed) => log(parsed, name))
    case "tap":
    case "taps":
      return Either.map(tapUri.parse(source), (address) => tap(address, name))
    case "ws":
    case "wss":
      return ws(source, name)
  }
  // without slashes it may be the user name of an address that lacks its scheme
  return source.slice(scheme.length).startsWith("://")
    ? Either.left(`the scheme "${scheme}:" is unknown; ${works}`)
    : invalid(name)
}

const isName = (name: string): boolean => /^[\p{L}\p{N}_][\p{L}\p{N}\p{M}_.-]{0,99}$/u.test(name)

/** A text that was meant to be an address, as far as it can be shown. */
const publicPart = (text: string): string => text.replace(/[?#].*$/s, "").replace(/^.*@/s, "")

const invalid = (
  name: string | undefined,
  example = "https://example.com/config.json"
): Either.Either<never, string> => {
  const what = name === undefined ? "a source" : `the source "${name}"`
  return Either.left(`${what} is not a valid address; write it whole, such as ${example}`)
}

const http = (source: string, name: string | undefined): Either.Either<HttpTarget, string> => {
  if (!/^https?:\/\/[^/?#]/i.test(source) || !URL.canParse(source)) {
    return invalid(name)
  }
  const url = new URL(source)
  url.hash = ""
  const publicUrl = url.origin + url.pathname
  return Either.right({ kind: "http", name: name ?? publicUrl, isNamed: name !== undefined, url, publicUrl })
}

const ws = (source: string, name: string | undefined): Either.Either<WsTarget, string> => {
  if (!/^wss?:\/\/[^/?#]/i.test(source) || !URL.canParse(source)) return invalid(name, "wss://example.com/events")
  const url = new URL(source)
  url.hash = ""
  const publicUrl = url.origin + url.pathname
  return Either.right({ kind: "ws", name: name ?? publicUrl, isNamed: name !== undefined, url, publicUrl })
}

const objects = (publicUrl: string, place: Place, name: string | undefined): Either.Either<ObjectsTarget, string> =>
  Either.right({ kind: "objects", name: name ?? publicUrl, isNamed: name !== undefined, publicUrl, place })

const log = (
  { log, publicUrl }: { readonly log: Log; readonly publicUrl: string },
  name: string | undefined
): LogTarget => ({ kind: "log", name: name ?? publicUrl, isNamed: name !== undefined, publicUrl, log })

const tap = (address: TapAddress, name: string | undefined): TapTarget => {
  const { publicUrl } = address
  return { kind: "tap", name: name ?? publicUrl, isNamed: name !== undefined, publicUrl, address }
}

interface Cloud {
  readonly what: string
  /** What the store takes for a name. */
  readonly isContainer: RegExp
  readonly credentials: string
}

const clouds: Readonly<Record<Bucket["store"], Cloud>> = {
  s3: {
    what: "bucket",
    isContainer: /^[A-Za-z0-9][A-Za-z0-9._:-]{1,254}$/,
    credentials: "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
  },
  gs: {
    what: "bucket",
    isContainer: /^[A-Za-z0-9]([A-Za-z0-9._-]{0,220}[A-Za-z0-9])?$/,
    credentials: "GOOGLE_APPLICATION_CREDENTIALS"
  },
  az: {
    what: "container",
    isContainer: /^(\$root|\$web|\$logs|(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*)$/,
    credentials: "AZURE_STORAGE_CONNECTION_STRING"
  }
}

/** `s3://bucket/prefix`: the prefix is plain text, in which a `%` is a `%`. */
const bucket = (
  store: Bucket["store"],
  source: string,
  name: string | undefined
): Either.Either<ObjectsTarget, string> => {
  const { credentials, isContainer, what } = clouds[store]
  const example = `${store}://${what}/prefix`
  const [, authority, rest] = /^[a-z0-9]+:\/\/([^/?#]*)(.*)$/is.exec(source) ?? []
  if (authority === undefined || rest === undefined) return invalid(name, example)
  // a secret may hold a slash
  if (authority.includes("@") || (authority.includes(":") && rest.includes("@"))) {
    return Either.left(
      `an ${store}:// address holds no user or key; write ${example}, and put the key into ${credentials}`
    )
  }
  if (/[?#]/.test(rest)) {
    return Either.left(`an ${store}:// address has no query and no fragment ("?", "#"); write it as ${example}`)
  }
  if (authority === "") return Either.left(`an ${store}:// address needs a ${what}; write it as ${example}`)
  if (/:\d*$/.test(authority)) {
    return Either.left(
      `an ${store}:// address has no port; write it as ${example}, and the server as --endpoint http://host:port`
    )
  }
  if (!isContainer.test(authority)) {
    return Either.left(`${JSON.stringify(authority)} cannot be the name of a ${what}; write it as ${example}`)
  }
  return objects(`${store}://${authority}${rest}`, { store, container: authority, prefix: rest.slice(1) }, name)
}

const dav = (
  scheme: "dav" | "davs",
  source: string,
  name: string | undefined
): Either.Either<ObjectsTarget, string> => {
  const example = `${scheme}://example.com/folder/`
  const address = source.replace(/^davs?/i, scheme === "dav" ? "http" : "https")
  if (!/^https?:\/\/[^/?#]/.test(address) || !URL.canParse(address)) return invalid(name, example)
  const url = new URL(address)
  if (url.search !== "") {
    return Either.left(`a ${scheme}:// address has no query: a folder has none; write it as ${example}`)
  }
  url.hash = ""
  return objects(`${scheme}://${url.host}${url.pathname}`, { store: "dav", url }, name)
}

const file = (source: string, name: string | undefined): Either.Either<ObjectsTarget, string> => {
  const example = "file:///dir"
  if (!/^file:\/\//i.test(source) || !URL.canParse(source)) return invalid(name, example)
  const url = new URL(source)
  if (url.host !== "") {
    return Either.left(`a file:// address has no host, but three slashes; write it as ${example}`)
  }
  if (url.search !== "" || url.hash !== "") {
    return Either.left(`a file:// address has no query and no fragment; write "?" as %3F and "#" as %23`)
  }
  const local = Option.liftThrowable(() => fileURLToPath(url))()
  return Option.match(local, {
    onNone: () => invalid(name, example),
    onSome: (local) => folder(local, url.href, name)
  })
}

/** A path on the command line: behind a "?" may be what was meant as a query, and a secret. */
const plainPath = (source: string, name: string | undefined): Either.Either<ObjectsTarget, string> =>
  source.includes("?")
    ? Either.left(
        `a folder has no query ("?"); where its name holds one, write it as file:///dir with %3F in place of the "?"`
      )
    : folder(source, source, name)

const folder = (local: string, shown: string, name: string | undefined): Either.Either<ObjectsTarget, string> =>
  local.includes("\0") ? invalid(name, "./dir") : objects(shown, { store: "folder", path: path.resolve(local) }, name)
