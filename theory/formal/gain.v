(* How much effective rank an activation gains at least: the sharp bound (R2); without centring it may lose (R3). *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
From Lop Require Import rank identities.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Sharp.
Variables (R : realFieldType) (a : nat -> R) (K : R -> R).
Hypothesis ker : kernel a K.
Notation b := (1 - a 1%N).                        (* the mass of the degrees from 2 on *)
Let a_ge0 k : 0 <= a k. Proof. by case: ker. Qed.

Lemma mix (p q x y : R) : 0 <= p -> 0 <= q -> (p * x + q * y) ^+ 2 <= (p + q) * (p * x ^+ 2 + q * y ^+ 2).
Proof. by move=> p0 q0; rewrite -subr_ge0 mix_identity mulr_ge0 ?sqr_ge0 // mulr_ge0. Qed.

Lemma from_cubes r : `|r| <= 1 -> `|K r - (a 1%N * r + a 2%N * r ^+ 2)| <= (b - a 2%N) * `|r| ^+ 3.
Proof.
have [_ a0 _ lim] := ker; move=> r1; apply/ler_addgt0Pr => e e_gt0; have [M close] := lim r r1 e e_gt0.
pose m := maxn 3 M; have le3m : (3 <= m)%N by apply: leq_maxl.
have {}close := close m (leq_maxr _ _).
set x := _ + a 2%N * _; have -> : K r - x = (partial a m r - x) + (K r - partial a m r) by rewrite [RHS]addrC addrA subrK.
apply: le_trans (ler_norm_add _ _) _; apply: ler_add close.
have -> : partial a m r - x = \sum_(3 <= k < m) a k * r ^+ k.
  rewrite /partial (big_cat_nat _ _ _ (leq0n 3) le3m) /= big_ltn // big_ltn // big_nat1 a0 mul0r add0r expr1 -/x.
  by rewrite addrC addKr.
apply: le_trans (ler_norm_sum _ _ _) _.
apply: le_trans (_ : (\sum_(3 <= k < m) a k) * `|r| ^+ 3 <= _); last first.
  rewrite ler_wpmul2r ?exprn_ge0 // ler_subr_addl; apply: le_trans (tail ker (ltnW le3m)).
  by rewrite [X in _ <= X]big_ltn // ltnW.
rewrite mulr_suml big_nat_cond [X in _ <= X]big_nat_cond; apply: ler_sum => k /andP[/andP[le3k _] _].
by rewrite normrM (ger0_norm (a_ge0 _)) normrX ler_wpmul2l // ler_wiexpn2l.
Qed.

Lemma a12_le1 : a 1%N + a 2%N <= 1.
Proof.
by rewrite -ler_subr_addl; apply: le_trans (tail ker (leqnSn 2)); rewrite big_nat1.
Qed.

(* entry by entry, the square lies below a mixture of the corners: all mass on degree 2, or all on degree 3 *)
Theorem R2_corners r : `|r| <= 1 ->
  b * K r ^+ 2 <= a 2%N * (a 1%N * r + b * r ^+ 2) ^+ 2 + (b - a 2%N) * (a 1%N * r + b * r ^+ 3) ^+ 2.
Proof.
move=> r1; set q := b - a 2%N; have q0 : 0 <= q by rewrite /q -addrA -opprD subr_ge0 a12_le1.
have bE : b = a 2%N + q by rewrite /q [RHS]addrC subrK.
have b0 : 0 <= b by rewrite subr_ge0 (a1_le1 ker).
have [z zr KE] : exists2 z, `|z| <= `|r| ^+ 3 & K r = a 1%N * r + (a 2%N * r ^+ 2 + q * z).
  have := from_cubes r1; rewrite -/q; have [->|qn0] := eqVneq q 0.
    by rewrite mul0r normr_le0 subr_eq0 => /eqP KE; exists 0; rewrite ?normr0 ?exprn_ge0 // mul0r addr0.
  move=> le; exists ((K r - (a 1%N * r + a 2%N * r ^+ 2)) / q); last by rewrite [q * _]mulrC divfK // [RHS]addrA [RHS]addrC subrK.
  have qp : 0 < q by rewrite lt_def qn0.
  by rewrite normf_div (ger0_norm q0) ler_pdivr_mulr // [X in _ <= X]mulrC.
have [b1|bn0] := eqVneq b 0.
  by rewrite b1 mul0r addr_ge0 // mulr_ge0 // sqr_ge0.
have bp : 0 < b by rewrite lt_def bn0.
have E : b * K r = a 2%N * (a 1%N * r + b * r ^+ 2) + q * (a 1%N * r + b * z) by rewrite KE bE mix_parts.
rewrite -(ler_pmul2l bp) mulrA -expr2 -exprMn E.
apply: le_trans (mix _ _ (a_ge0 2) q0) _; rewrite -bE ler_wpmul2l ?(ltW bp) // ler_add2l ler_wpmul2l //.
rewrite -subr_ge0 cube_identity addr_ge0 //.
  have ab0 : 0 <= a 1%N * b by rewrite mulr_ge0 ?(ltW bp).
  rewrite mulrn_wge0 // (mulr_ge0 ab0) // mulrBr subr_ge0 -exprS.
  apply: le_trans (ler_norm _) _; rewrite normrM -[r ^+ 4]ger0_norm ?exprn_even_ge0 // normrX exprS ler_wpmul2l //.
rewrite mulr_ge0 ?sqr_ge0 // subr_ge0 -[z ^+ 2]real_normK ?num_real // -[X in _ <= X]real_normK ?num_real //.
by rewrite normrX ler_expn2r ?nnegrE ?exprn_ge0.
Qed.

Definition corner n (C : 'M[R]_n) (a1 : R) k := \sum_i \sum_(j | j != i) (a1 * C i j + (1 - a1) * C i j ^+ k) ^+ 2.

Theorem R2_sharp n (C : 'M[R]_n) : correlations C ->
  n%:R ^+ 2 / (n%:R + Num.max (corner C (a 1%N) 2) (corner C (a 1%N) 3)) <= er2 (map_mx K C).
Proof.
move=> [diag le1]; have K1 : K 1 = 1 by case: ker.
apply: er2_ge => [i|]; first by rewrite mxE diag K1.
have -> : \sum_i \sum_j map_mx K C i j ^+ 2 = n%:R + \sum_i \sum_(j | j != i) K (C i j) ^+ 2.
  rewrite -[n in n%:R]card_ord -sumr_const -big_split; apply: eq_bigr => i _.
  by rewrite (bigD1 i) //= mxE diag K1 expr1n; congr (_ + _); apply: eq_bigr => j _; rewrite mxE.
rewrite ler_add2l; set m := Num.max _ _.
have b0 : 0 <= b by rewrite subr_ge0 (a1_le1 ker).
have q0 : 0 <= b - a 2%N by rewrite -addrA -opprD subr_ge0 a12_le1.
have [b1|bn0] := eqVneq b 0.
  apply: le_trans (_ : corner C (a 1%N) 2 <= _); last by rewrite le_maxr lexx.
  apply: ler_sum => i _; apply: ler_sum => j _; rewrite b1 mul0r addr0.
  have := R2_entry ker (le1 i j); rewrite b1 mul0r addr0 => le.
  rewrite -[X in X <= _]real_normK ?num_real // -[X in _ <= X]real_normK ?num_real //.
  by rewrite ler_expn2r ?nnegrE // normrM (ger0_norm (a_ge0 1)); exact: le.
have bp : 0 < b by rewrite lt_def bn0.
rewrite -(ler_pmul2l bp).
apply: le_trans (_ : a 2%N * corner C (a 1%N) 2 + (b - a 2%N) * corner C (a 1%N) 3 <= _).
  rewrite !mulr_sumr -big_split; apply: ler_sum => i _; rewrite !mulr_sumr -big_split; apply: ler_sum => j _.
  exact: R2_corners.
rewrite -[X in _ <= X * _](subrK (a 2%N)) [X in _ <= X * _]addrC.
by rewrite [X in _ <= X]mulrDl; apply: ler_add; rewrite ler_wpmul2l // le_maxr lexx ?orbT.
Qed.
End Sharp.

(* the masses of c_1 He_1 + sqrt(1 - c_1^2) He_k / sqrt(k!) *)
Section Attained.
Variables (R : realFieldType) (a1 : R).
Hypothesis a1_ge0 : 0 <= a1.
Hypothesis a1_le1 : a1 <= 1.
Definition two_masses k (i : nat) : R := if i == 1%N then a1 else if i == k then 1 - a1 else 0.
Definition two_kernel k (r : R) := a1 * r + (1 - a1) * r ^+ k.

Theorem R2_extremal k : (2 <= k)%N -> kernel (two_masses k) (two_kernel k).
Proof.
move=> le2k; have k1 : (k == 1)%N = false by case: k le2k => [|[]].
split=> [i||| r r1 e e0].
- by rewrite /two_masses; do 2?[case: ifP => // _]; rewrite subr_ge0.
- by rewrite /two_masses /= eq_sym; case: k le2k {k1} => [|[]].
- by rewrite /two_kernel expr1n !mulr1 addrC subrK.
exists k.+1 => m le_km; suff -> : partial (two_masses k) m r = two_kernel k r by rewrite subrr normr0 ltW.
have pick i c : (i < m)%N -> \sum_(0 <= j < m) (if j == i then c else 0) * r ^+ j = c * r ^+ i.
  move=> lt_i; rewrite (bigD1_seq i) ?mem_index_iota ?iota_uniq //= eqxx big1 ?addr0 // => j /negPf->.
  by rewrite mul0r.
rewrite /partial /two_kernel -(pick k) // -[X in _ = a1 * X + _]expr1 -(pick 1%N) -?big_split;
  last by rewrite (leq_trans _ le_km) // ltnW.
apply: eq_bigr => j _ /=; rewrite -mulrDl /two_masses; congr (_ * _).
by have [->|] := eqVneq j 1%N; rewrite ?add0r // eq_sym k1 addr0.
Qed.

(* for every C one of the two degrees attains the bound: none that depends on c_1 and C alone is better *)
Theorem R2_attained n (C : 'M[R]_n) : correlations C -> exists2 k, k \in [:: 2; 3]%N &
  er2 (map_mx (two_kernel k) C) = n%:R ^+ 2 / (n%:R + Num.max (corner C a1 2) (corner C a1 3)).
Proof.
move=> [diag _]; have er k : (2 <= k)%N -> er2 (map_mx (two_kernel k) C) = n%:R ^+ 2 / (n%:R + corner C a1 k).
  have one : two_kernel k 1 = 1 by rewrite /two_kernel expr1n !mulr1 addrC subrK.
  move=> _; rewrite er2_diag => [|i]; last by rewrite mxE diag one.
  congr (_ / _); rewrite -[n in n%:R + _]card_ord -sumr_const -big_split; apply: eq_bigr => i _.
  by rewrite (bigD1 i) //= mxE diag one expr1n; congr (_ + _); apply: eq_bigr => j _; rewrite mxE.
by case: (leP (corner C a1 2) (corner C a1 3)) => _; [exists 3%N | exists 2%N]; rewrite ?er.
Qed.
End Attained.

(* R3: phi divided by the root of E phi^2 and not centred, so that K(0) = (E phi)^2 / E phi^2 =: m, the identity for
   independent pre-activations *)
Section Uncentred.
Variables (R : realFieldType) (K : R -> R) (m : R) (n : nat).
Theorem R3_identity : K 1 = 1 -> K 0 = m -> let I : 'M[R]_n := 1%:M in
  er2 (map_mx K I) = n%:R / (1 + (n%:R - 1) * m ^+ 2) /\ ((2 <= n)%N -> m != 0 -> er2 (map_mx K I) < er2 I).
Proof.
move=> K1 K0 I; rewrite /I => {I};
have sumE L : L 1 = 1 :> R -> er2 (map_mx L (1%:M : 'M[R]_n)) = n%:R / (1 + (n%:R - 1) * L 0 ^+ 2).
  move=> L1; rewrite er2_diag => [|i]; last by rewrite !mxE eqxx L1.
  have -> : \sum_i \sum_j map_mx L (1%:M : 'M[R]_n) i j ^+ 2 = n%:R * (1 + (n%:R - 1) * L 0 ^+ 2).
    rewrite mulr_natl -[n in RHS]card_ord -sumr_const; apply: eq_bigr => i _.
    rewrite (bigD1 i) //= !mxE eqxx L1 expr1n; congr (_ + _).
    rewrite (eq_bigr (fun=> L 0 ^+ 2)) => [|j /negPf ji]; last by rewrite !mxE eq_sym ji.
    rewrite sumr_const cardC1 card_ord -mulr_natl; congr (_ * _); case: n i => [[]//|n' _] /=.
    by rewrite -[in RHS]addn1 natrD addrK.
  have [->|n0] := eqVneq n 0%N; first by rewrite expr0n !mul0r.
  by rewrite invfM expr2 mulrA mulfK // pnatr_eq0.
rewrite sumE // K0; split=> // le2n m0.
have -> : 1%:M = map_mx id (1%:M : 'M[R]_n) by apply/matrixP => i j; rewrite !mxE.
rewrite (sumE id) // expr0n mulr0 addr0 invr1 mulr1.
have n1 : 0 < n%:R - 1 :> R by rewrite subr_gt0 ltr1n.
have gt : 0 < (n%:R - 1) * m ^+ 2 by rewrite mulr_gt0 // lt_def sqrf_eq0 m0 sqr_ge0.
have n0 : 0 < n%:R :> R by rewrite ltr0n ltnW.
rewrite ltr_pdivr_mulr; last by rewrite addr_gt0 ?ltr01.
by rewrite ltr_pmulr // ltr_addl.
Qed.
End Uncentred.
