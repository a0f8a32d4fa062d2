/**
 * Reads `[NAME=]<source>`. What it says about one never shows user info, query or fragment: they may be secrets.
 */
import * as Either from "effect/Either"

/** An address to be polled over HTTP. `publicUrl` is without user info, query and fragment; `url` is whole. */
export interface HttpTarget {
  readonly kind: "http"
  /** Tells the source from the others; the public address where none was given. */
  readonly name: string
  readonly isNamed: boolean
  readonly url: URL
  readonly publicUrl: string
}

export type Target = HttpTarget

const known: Readonly<Record<string, string>> = {
  s3: "S3 buckets",
  gs: "Google Cloud Storage",
  az: "Azure Blob Storage",
  dav: "WebDAV",
  davs: "WebDAV",
  file: "local folders",
  sqlite: "SQLite change logs",
  postgres: "PostgreSQL change logs",
  postgresql: "PostgreSQL change logs",
  tap: "Tap servers",
  taps: "Tap servers",
  ws: "WebSockets",
  wss: "WebSockets"
}

const works = "http:// and https:// work"

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
      ? Either.left(`local folders are known, but not built into this version; ${works}`)
      : Either.left(
          `${JSON.stringify(publicPart(source))} is no source; write an address with its scheme, such as https://example.com/config.json`
        )
  }
  if (scheme === "http" || scheme === "https") return http(source, name)
  const what = known[scheme]
  // without slashes it may be the user name of an address that lacks its scheme
  if (what === undefined && !source.slice(scheme.length).startsWith("://")) return invalid(name)
  return Either.left(
    what === undefined
      ? `the scheme "${scheme}:" is unknown; ${works}`
      : `"${scheme}:" (${what}) is known, but not built into this version; ${works}`
  )
}

const isName = (name: string): boolean => /^[\p{L}\p{N}_][\p{L}\p{N}\p{M}_.-]{0,99}$/u.test(name)

/** A text that was meant to be an address, as far as it can be shown. */
const publicPart = (text: string): string => text.replace(/[?#].*$/s, "").replace(/^.*@/s, "")

const invalid = (name: string | undefined): Either.Either<never, string> => {
  const what = name === undefined ? "a source" : `the source "${name}"`
  return Either.left(`${what} is not a valid address; write it whole, such as https://example.com/config.json`)
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
