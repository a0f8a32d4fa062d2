/**
 * The order of keys by their UTF-8 bytes, in which S3, Google Cloud Storage and Azure list.
 */

/** Compares as the UTF-8 bytes do. JavaScript's `<` puts U+E000 to U+FFFF behind the astral planes. */
export const compareUtf8 = (a: string, b: string): number => {
  const length = Math.min(a.length, b.length)
  for (let index = 0; index < length; index++) {
    const left = a.charCodeAt(index)
    const right = b.charCodeAt(index)
    if (left !== right) return rank(left) - rank(right)
  }
  return a.length - b.length
}

// surrogates stand for code points above all others
const rank = (unit: number): number => (unit < 0xd800 ? unit : unit >= 0xe000 ? unit - 0x800 : unit + 0x2000)
