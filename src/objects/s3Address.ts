/**
 * Where a bucket of S3 is: its host and path by region, and the path of a key that arrives byte for byte.
 */
import { encode } from "./s3Signing.js"

/** Where a bucket is in one region. `base` is its path, up to where keys begin. */
export interface Place {
  readonly origin: string
  readonly host: string
  readonly base: string
}

export interface Address {
  /** Names the bucket whatever its region: names of Amazon's buckets are unique. */
  readonly identity: string
  /** Whether the host follows from the region. */
  readonly isAmazon: boolean
  readonly place: (region: string) => Place
}

export const isBucket = (name: string): boolean => /^[A-Za-z0-9][A-Za-z0-9._:-]{1,254}$/.test(name)

export const isRegion = (name: string): boolean => /^[A-Za-z0-9-]{1,63}$/.test(name)

/** Names that a certificate for `*.s3.region.amazonaws.com` covers. */
const isHostLabel = (bucket: string): boolean => /^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/.test(bucket)

export const amazon = (bucket: string, pathStyle: boolean = !isHostLabel(bucket)): Address => ({
  identity: `s3://${bucket}`,
  isAmazon: true,
  place: (region) => {
    const host = `s3.${region}.amazonaws.com${region.startsWith("cn-") ? ".cn" : ""}`
    return placeAt(`https://${host}`, bucket, pathStyle)
  }
})

/** `endpoint`: an http address without a slash at its end. */
export const custom = (endpoint: string, bucket: string, pathStyle: boolean = true): Address => {
  const place = placeAt(endpoint, bucket, pathStyle)
  return { identity: `${endpoint}/${bucket}`, isAmazon: false, place: () => place }
}

const placeAt = (endpoint: string, bucket: string, pathStyle: boolean): Place => {
  const { host, pathname, protocol } = new URL(endpoint)
  const path = pathname.endsWith("/") ? pathname : `${pathname}/`
  return pathStyle
    ? { origin: `${protocol}//${host}`, host, base: `${path}${encode(bucket)}/` }
    : { origin: `${protocol}//${bucket}.${host}`, host: `${bucket}.${host}`, base: path }
}

export interface KeyPath {
  /** As it is signed: servers decode the path, and keep the slashes when they encode it again. */
  readonly signed: string
  readonly sent: string
}

const isDotSegment = /(?:^|\/)\.{1,2}(?:\/|$)/

/**
 * The path of a key, or nothing for a key that no address can have.
 *
 * An address is resolved before it is sent: `a/../b` would become `b`. With its slashes encoded such a key is one segment, and
 * arrives. A key that is nothing but dots is one segment together with its bucket, where that is in the path.
 */
export const keyPath = ({ base }: Place, key: string): KeyPath | undefined => {
  const encoded = encode(key)
  const signed = base + encoded.replaceAll("%2F", "/")
  if (!isDotSegment.test(key)) return { signed, sent: signed }
  if (key !== "." && key !== "..") return { signed, sent: base + encoded }
  return base === "/" ? undefined : { signed, sent: `${base.slice(0, -1)}%2F${encoded}` }
}
