# Firmware for a PC that shows whether an accelerator runs real guests, and at
# the speed of the hardware. It takes interrupts in real mode, goes to 64-bit
# mode with paging, takes an exception there, goes to user mode, comes back by
# an interrupt, and writes 0x10 to the debug exit port 0xf4. In both modes it
# counts to 50 million: a fraction of a second where the processor does it, and
# far more than the probe's limit where privileged code is interpreted one
# instruction at a time. Whatever goes wrong ends in a triple fault or stands
# still.
#
# Made into trial.bin, which lies at offset 0xf000 of the 64 KiB ROM, with
#	as --64 -o trial.o trial.asm
#	ld -Ttext=0xf000 -e start --oformat=binary -o trial.bin trial.o

	.set	ROM, 0xf0000		# where segment 0xf000 lies
	.code16
	.globl	start
start:
	ljmp	$0xf000, $real		# leave the reset vector's high alias
real:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$0x7000, %sp
	cld
	# vector 8 of the real-mode table
	movw	$tick, 8*4
	movw	$0xf000, 8*4+2
	movw	$0, 0x600
	int	$8
	int	$8
	cmpw	$2, 0x600
	jne	.
	movl	$0x3000000, %ecx	# work, in real mode
1:	decl	%ecx
	jnz	1b

	# page tables at 0x1000, 0x2000, 0x3000: the first 2 MiB as they are,
	# open to user mode
	movw	$0x1000, %di
	xorw	%ax, %ax
	movw	$0x3000/2, %cx
	rep stosw
	movw	$0x2007, 0x1000
	movw	$0x3007, 0x2000
	movw	$0x0087, 0x3000
	# descriptors and the task state to writable memory
	movw	$0xf000, %ax
	movw	%ax, %ds
	movw	$gdt, %si
	movw	$0x4000, %di
	movw	$(gdt_end-gdt)/2, %cx
	rep movsw
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	$0x5000, %di
	movw	$0x68/2, %cx
	rep stosw
	movw	$0x7000, 0x5004		# stack of ring 0
	movw	$0x68, 0x5066		# no port bitmap
	lgdtl	%cs:gdtr
	movl	$0x20, %eax		# PAE
	movl	%eax, %cr4
	movl	$0x1000, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx	# EFER: long mode
	rdmsr
	orl	$0x100, %eax
	wrmsr
	movl	%cr0, %eax
	orl	$0x80000001, %eax
	movl	%eax, %cr0
	ljmpl	$0x08, $(ROM+long)

tick:
	pushw	%ax
	incw	0x600
	popw	%ax
	iretw

	.code64
long:
	movl	$0x10, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	$0x7000, %esp
	movl	$0x28, %eax
	ltr	%ax
	# gates: 3 (breakpoint, open to user mode), 6 (invalid opcode)
	movl	$0x6000, %edi
	xorl	%eax, %eax
	movl	$0x100/4, %ecx
	rep stosl
	movl	$0x00080000+breakpoint, 0x6000+3*16
	movl	$0x000fee00, 0x6000+3*16+4
	movl	$0x00080000+invalid, 0x6000+6*16
	movl	$0x000f8e00, 0x6000+6*16+4
	lidt	ROM+idtr
	xorl	%ebx, %ebx
	ud2
	cmpl	$1, %ebx
	jne	dead
	movl	$0x3000000, %ecx	# work, in 64-bit mode
1:	decl	%ecx
	jnz	1b
	# to user mode
	pushq	$0x1b
	pushq	$0x6c00
	pushq	$0x2
	pushq	$0x23
	pushq	$ROM+user
	iretq
user:
	movl	$0x5a5a, %ebx
	int3
dead:
	jmp	dead

invalid:
	incl	%ebx
	addq	$2, (%rsp)		# past the ud2
	iretq

breakpoint:
	cmpl	$0x5a5a, %ebx
	jne	dead
	cmpw	$0x23, 8(%rsp)		# came from user mode
	jne	dead
	movb	$0x10, %al
	outb	%al, $0xf4
1:	hlt
	jmp	1b

	.balign	8
gdt:	.quad	0
	.quad	0x00209a0000000000	# 08: code, 64 bits
	.quad	0x0000920000000000	# 10: data
	.quad	0x0000f20000000000	# 18: user data
	.quad	0x0020fa0000000000	# 20: user code
	.quad	0x0000890050000067	# 28: task state at 0x5000
	.quad	0
gdt_end:
gdtr:	.word	gdt_end-gdt-1
	.long	0x4000
idtr:	.word	0xff
	.quad	0x6000
