// Opened from disk, a page may not read another: the search then shows titles, without an extract from each page.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
