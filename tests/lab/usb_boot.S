/* A boot sector that reads and writes its disk by the BIOS, on order from the first serial port:
     S  sums SECTORS sectors from the first on          answer: "S" and the sum
     W  writes as many of a generated pattern at WRITE_AT        "W" and the generator's last number;
                                                             the next one goes on from there
     R  reads what the last W wrote, comparing every word        "R" and that number, or "D" and where in a chunk they differ
     L  reads until that fails                                   "L", and in the end
   whatever fails                                                "E" and the BIOS' status
   Numbers are 8 hexadecimal digits. SECTORS, WRITE_AT, CHUNK (sectors per call; SECTORS is a power of two times it), SEED: --defsym. */
        .code16
        .intel_syntax noprefix
        .globl _start
        .set buffer, 0x1000             /* segment */
        .set serial, 0x3f8
        .set words, CHUNK * 128

_start: ljmp    0, offset begin
begin:  xor     ax, ax
        mov     ds, ax
        mov     ss, ax
        mov     sp, 0x7c00
        mov     ax, buffer
        mov     es, ax
        cld
        sti
        mov     drive, dl
        mov     al, 'B'
        xor     ebp, ebp
        call    answer

order:  call    hear
        cmp     al, 'S'
        je      sum
        cmp     al, 'W'
        je      write
        cmp     al, 'R'
        je      read
        cmp     al, 'L'
        jne     order
        xor     ebp, ebp
        call    answer
        mov     dword ptr block, 0
endless:
        mov     ah, 0x42
        call    disk
        and     dword ptr block, SECTORS - 1
        jmp     endless

sum:    xor     ebp, ebp
        mov     dword ptr block, 0
1:      mov     ah, 0x42
        call    disk
        push    ds
        push    es
        pop     ds
        xor     si, si
        mov     cx, words
2:      lodsd
        rol     ebp, 1
        add     ebp, eax
        loop    2b
        pop     ds
        cmp     dword ptr block, SECTORS
        jb      1b
        mov     al, 'S'
        call    answer
        jmp     order

write:  mov     ebp, last
        mov     first, ebp
        mov     dword ptr block, WRITE_AT
1:      xor     di, di
        mov     cx, words
2:      call    number
        stosd
        loop    2b
        mov     ax, 0x4300
        call    disk
        cmp     dword ptr block, WRITE_AT + SECTORS
        jb      1b
        mov     last, ebp
        mov     al, 'W'
        call    answer
        jmp     order

read:   mov     ebp, first
        mov     dword ptr block, WRITE_AT
1:      mov     ah, 0x42
        call    disk
        xor     di, di
        mov     cx, words
2:      call    number
        scasd
        loope   2b
        jne     differs
        cmp     dword ptr block, WRITE_AT + SECTORS
        jb      1b
        mov     al, 'R'
        call    answer
        jmp     order
differs:
        movzx   ebp, di
        mov     al, 'D'
        call    answer
        jmp     order

/* The generator's next number after ebp, into ebp and eax. */
number: imul    ebp, ebp, 1664525
        add     ebp, 1013904223
        mov     eax, ebp
        ret

/* The BIOS' function in ah on the next chunk; returns only if it succeeds. */
disk:   mov     si, offset packet
        mov     dl, drive
        int     0x13
        jc      failed
        add     dword ptr block, CHUNK
        ret
failed: mov     sp, 0x7c00
        movzx   ebp, ah
        mov     al, 'E'
        call    answer
        jmp     order

/* al, ebp and a line feed. */
answer: call    say
        mov     cx, 8
1:      rol     ebp, 4
        mov     ax, bp
        and     al, 15
        cmp     al, 10
        sbb     al, 0x69                /* the number's digit by das */
        das
        call    say
        loop    1b
        mov     al, 10
say:    mov     ah, al
        mov     dx, serial + 5
1:      in      al, dx
        test    al, 0x20
        jz      1b
        mov     dx, serial
        mov     al, ah
        out     dx, al
        ret

/* The next byte into al; sleeps from tick to tick. */
hear:   mov     dx, serial + 5
        in      al, dx
        test    al, 1
        jnz     1f
        hlt
        jmp     hear
1:      mov     dx, serial
        in      al, dx
        ret

packet: .byte   16, 0
        .word   CHUNK, 0, buffer
block:  .quad   0
first:  .long   SEED                    /* before the last W */
last:   .long   SEED
drive:  .byte   0
        .org    510
        .word   0xaa55
