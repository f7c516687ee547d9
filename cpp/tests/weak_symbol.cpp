// What a kernel must not hold: an inline function that was not inlined. Shows that the check finds it.
inline int inline_twice(int x) { return 2 * x; }
int (*const volatile pointer)(int) = inline_twice;
