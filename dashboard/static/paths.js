// Paths of this site. Behind a proxy the dashboard may live under a sub-path, such as /fraud; scripts are
// served from there, too, so the address of this one says which it is.

const ROOT = new URL("..", import.meta.url).pathname.replace(/\/$/, "");

/** The path under which a browser finds `path`, which begins with a slash. */
export const onSite = (path) => ROOT + path;

/** The path of the page that is shown, without the sub-path. */
export const here = () => location.pathname.slice(ROOT.length) + location.search;
