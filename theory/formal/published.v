(* The published bound on the gain of effective rank (R9), where the rank stays (R1, R10), and which kernel gains more (R11,
   R12). *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
From Lop Require Import rank identities gain.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Definition gamma (R : realFieldType) (x : R) := (1 - x) / (1 + x).

Section Published.
Variables (R : realFieldType) (a : nat -> R) (K : R -> R).
Hypothesis ker : kernel a K.
Let a_ge0 k : 0 <= a k. Proof. by case: ker. Qed.
Let K1 : K 1 = 1. Proof. by case: ker. Qed.

Lemma sqr_norm (x : R) : `|x| ^+ 2 = x ^+ 2. Proof. by rewrite real_normK ?num_real. Qed.
Lemma le_sqr (x y : R) : (x ^+ 2 <= y ^+ 2) = (`|x| <= `|y|).
Proof. by rewrite -(sqr_norm x) -(sqr_norm y) ler_sqr ?nnegrE. Qed.
Lemma eq_sqr_norm (x y : R) : (x ^+ 2 == y ^+ 2) = (`|x| == `|y|).
Proof. by rewrite -(sqr_norm x) -(sqr_norm y) eqr_expn2. Qed.

(* ------------------------------------------------------------------ *)
(* R1: the cases of equality.  a_1 = 1: all mass on degree one, phi is linear *)
(* ------------------------------------------------------------------ *)
Lemma linear_kernel r : a 1%N = 1 -> `|r| <= 1 -> K r = r.
Proof.
move=> a1 r1; have := from_cubes ker r1; have := a12_le1 ker; rewrite a1 ger_addl => a2_le0.
have -> : a 2%N = 0 by apply/le_anti; rewrite a2_le0 a_ge0.
by rewrite mul0r addr0 mul1r subrr subr0 mul0r normr_le0 subr_eq0 => /eqP.
Qed.

Lemma stays_inside r : a 1%N != 1 -> `|r| <= 1 -> `|K r| = `|r| -> `|r| = 0 \/ `|r| = 1.
Proof.
move=> a1 r1 E; have := R2_entry ker r1; rewrite E -ler_subl_addl -[X in X - _]mul1r -mulrBl.
have b0 : 0 < 1 - a 1%N by rewrite subr_gt0 lt_def eq_sym a1 (a1_le1 ker).
rewrite ler_pmul2l // -sqr_norm expr2; case: (eqVneq `|r| 0) => [->|r0]; first by left.
have rp : 0 < `|r| by rewrite lt_def r0 normr_ge0.
by rewrite -[X in X <= _]mulr1 ler_pmul2l // => le; right; apply/le_anti; rewrite r1.
Qed.

(* the sum of all squared entries falls, and stays where all entries stay in size *)
Definition frob n (C : 'M[R]_n) := \sum_i \sum_j C i j ^+ 2.
Lemma frob_le n (C : 'M[R]_n) : correlations C -> frob (map_mx K C) <= frob C.
Proof.
move=> [_ le1]; apply: ler_sum => i _; apply: ler_sum => j _.
by rewrite mxE le_sqr (R1_entry ker).
Qed.
Lemma frob_eq n (C : 'M[R]_n) : correlations C ->
  (frob (map_mx K C) = frob C <-> forall i j, `|K (C i j)| = `|C i j|).
Proof.
move=> [_ le1]; split=> [/eqP|E]; last first.
  by apply: eq_bigr => i _; apply: eq_bigr => j _; apply/eqP; rewrite mxE eq_sqr_norm E.
rewrite eq_sym -subr_eq0 /frob -sumrB; under eq_bigr do rewrite -sumrB.
have pos i j : 0 <= C i j ^+ 2 - map_mx K C i j ^+ 2 by rewrite subr_ge0 mxE le_sqr (R1_entry ker).
rewrite psumr_eq0 => [|i _]; last exact: sumr_ge0.
move=> /allP zero i j; have := zero i (mem_index_enum i); rewrite psumr_eq0 // => /allP/(_ j (mem_index_enum j)).
by rewrite mxE subr_eq0 eq_sym eq_sqr_norm => /eqP.
Qed.
Lemma frob_pos n (C : 'M[R]_n) : (0 < n)%N -> (forall i, C i i = 1) -> 0 < frob C.
Proof.
case: n C => // n C _ diag; rewrite /frob big_ord_recl big_ord_recl diag expr1n -addrA ltr_spaddl ?ltr01 //.
by rewrite addr_ge0 ?sumr_ge0 // => *; rewrite ?sumr_ge0 // => *; apply: sqr_ge0.
Qed.
Lemma diag_K n (C : 'M[R]_n) : correlations C -> forall i, map_mx K C i i = 1.
Proof. by move=> [diag _] i; rewrite mxE diag. Qed.
Lemma er2_frob n (C : 'M[R]_n) : (forall i, C i i = 1) -> er2 C = n%:R ^+ 2 / frob C.
Proof. exact: er2_diag. Qed.
Lemma er2_stays n (C : 'M[R]_n) : correlations C -> (er2 (map_mx K C) == er2 C) = (frob (map_mx K C) == frob C).
Proof.
move=> cor; have [diag _] := cor; rewrite !er2_frob //; last exact: diag_K.
case: n C cor diag => [|n] C cor diag; first by rewrite expr0n !mul0r eqxx /frob !big_ord0 eqxx.
have n0 : n.+1%:R ^+ 2 != 0 :> R by rewrite expf_neq0 // pnatr_eq0.
by rewrite (inj_eq (mulfI n0)) (inj_eq invr_inj).
Qed.

Definition settled n (C : 'M[R]_n) := forall i j, i != j -> [\/ C i j = 0, C i j = 1 | C i j = -1 /\ `|K (-1)| = 1].
Theorem R1_equality n (C : 'M[R]_n) : correlations C ->
  (er2 (map_mx K C) = er2 C <-> a 1%N = 1 \/ settled C).
Proof.
move=> cor; have [diag le1] := cor.
apply: (iff_trans (B := frob (map_mx K C) = frob C)); first by split=> /eqP E; apply/eqP; rewrite -?er2_stays // er2_stays.
apply: (iff_trans (frob_eq cor)); split=> [E|[a1 i j|ok i j]].
- have [a1|a1] := eqVneq (a 1%N) 1; [by left | right=> i j _].
  have [/eqP|] := stays_inside a1 (le1 i j) (E i j); first by rewrite normr_eq0 => /eqP; constructor 1.
  move=> n1; have: `|C i j| == `|1| by rewrite normr1 n1.
  rewrite eqr_norm2 => /orP[] /eqP cE; [by constructor 2 | constructor 3; split=> //].
  by rewrite -cE E cE normrN1.
- by rewrite linear_kernel.
have [->|ne] := eqVneq i j; first by rewrite diag K1.
have [->|->|[-> ->]] := ok i j ne; rewrite ?K1 // ?normrN1 //.
by apply/le_anti; rewrite (R1_entry ker) ?normr0 ?ler01 //= normr_ge0.
Qed.

(* at -1: phi is purely even (s = false) or purely odd (s = true) *)
Lemma at_minus_one (s : bool) : K (-1) = (-1) ^+ s <-> (forall k, odd k != s -> a k = 0).
Proof.
have [_ _ _ lim] := ker; have n1 : `|-1 : R| <= 1 by rewrite normrN1.
have term j : (-1) ^+ s * (a j * (-1) ^+ j) = a j * (-1) ^+ (odd j != s).
  by rewrite mulrCA -[(-1) ^+ j]signr_odd -signr_addb addbC; case: s; case: (odd j).
split=> [E k ks|zero].
  apply/le_anti; rewrite a_ge0 andbT; apply/ler_addgt0Pr => e e0; rewrite add0r.
  have [M close] := lim _ n1 e e0; pose m := maxn k.+1 M.
  have {}close := close m (leq_maxr _ _); have lt_km : (k < m)%N by apply: leq_maxl.
  have le : (-1) ^+ s * partial a m (-1) <= 1 - a k *+ 2.
    apply: le_trans (_ : \sum_(0 <= j < m) (a j - (if j == k then a k *+ 2 else 0)) <= _).
      rewrite /partial mulr_sumr; apply: ler_sum => j _; rewrite term.
      have [->|_] := eqVneq j k; first by rewrite ks mulrN1 mulr2n opprD addNKr.
      by rewrite subr0 ler_pimulr //; case: (_ != s); rewrite ?expr1 ?expr0 // (le_trans (lerN10 _) ler01).
    rewrite sumrB ler_add ?(mass ker) // ler_opp2 (bigD1_seq k) ?mem_index_iota ?iota_uniq //= eqxx.
    by rewrite big1 ?addr0 // => j /negPf->.
  have: 1 - (-1) ^+ s * partial a m (-1) <= e.
    apply: le_trans close; apply: le_trans (_ : `|(-1) ^+ s * (K (-1) - partial a m (-1))| <= _);
      last by rewrite normrM normr_sign mul1r.
    by rewrite mulrBr E -signr_addb addbb expr0 ler_norm.
  rewrite ler_subl_addl -ler_subl_addr => le'; have := le_trans le' le; rewrite ler_add2l ler_opp2.
  by apply: le_trans; rewrite mulr2n ler_addl.
apply/eqP; rewrite -subr_eq0 -normr_eq0; apply/eqP/le_anti; rewrite normr_ge0 andbT.
apply/ler_addgt0Pr => e e0; rewrite add0r [e]splitr; have h0 : 0 < e / 2%:R by rewrite divr_gt0 ?ltr0n.
have [M close] := lim _ n1 _ h0; have one1 : `|1 : R| <= 1 by rewrite normr1.
have [M' close'] := lim 1 one1 _ h0.
have {}close := close _ (leq_maxl M M'); have {}close' := close' _ (leq_maxr M M').
set m := maxn M M' in close close'; have E : partial a m (-1) = (-1) ^+ s * partial a m 1.
  rewrite /partial mulr_sumr; apply: eq_bigr => j _; rewrite expr1n mulr1.
  have [js|js] := eqVneq (odd j) s; first by rewrite -signr_odd js mulrC.
  by rewrite zero // mul0r mulr0.
have -> : K (-1) - (-1) ^+ s = (K (-1) - partial a m (-1)) + (-1) ^+ s * (partial a m 1 - K 1).
  by rewrite K1 mulrBr mulr1 -E addrA subrK.
apply: le_trans (ler_norm_add _ _) _; apply: ler_add close _.
by rewrite normrM normr_sign mul1r distrC.
Qed.

Theorem R1_minus_one : `|K (-1)| = 1 <-> (forall k, odd k -> a k = 0) \/ (forall k, ~~ odd k -> a k = 0).
Proof.
have ends (s : bool) : K (-1) = (-1) ^+ s -> `|K (-1)| = 1 by move->; rewrite normr_sign.
split=> [E|[z|z]].
- have: `|K (-1)| == `|1| by rewrite normr1 E.
  rewrite eqr_norm2 => /orP[] /eqP kE; [left | right] => k ko.
    by apply: ((at_minus_one false).1 kE); rewrite ko.
  by apply: ((at_minus_one true).1 kE); rewrite (negPf ko).
- by apply: (ends false); apply/at_minus_one => k; case ko: (odd k) => // _; apply: z.
by apply: (ends true); apply/at_minus_one => k; case ko: (odd k) => // _; apply: z; rewrite ko.
Qed.

(* ------------------------------------------------------------------ *)
(* R9: the published bound                                             *)
(* ------------------------------------------------------------------ *)
Notation strength := (gamma (a 1%N)).                                 (* a_1 = K'(0) *)
Definition spread n (C : 'M[R]_n) := \sum_i \sum_(j | j != i) C i j ^+ 2 * (1 - C i j ^+ 2).      (* Psi *)

Lemma strength_ge0 : 0 <= strength.
Proof. by rewrite divr_ge0 ?subr_ge0 ?(a1_le1 ker) // addr_ge0 ?ler01. Qed.
Let a1p : 0 < 1 + a 1%N. Proof. by rewrite ltr_spaddl ?ltr01. Qed.

(* what an entry of size r loses under the bound of R2 *)
Theorem R9_entry r : `|r| <= 1 ->
  strength * (r ^+ 2 * (1 - r ^+ 2)) <= r ^+ 2 - (a 1%N * `|r| + (1 - a 1%N) * r ^+ 2) ^+ 2.
Proof.
rewrite -(sqr_norm r); move: `|r| (normr_ge0 r) => x x0 x1.
rewrite -(ler_pmul2l a1p) mulrA [(1 + _) * strength]mulrC divfK ?gt_eqF // -subr_ge0 loss_identity.
have b0 : 0 <= 1 - a 1%N by rewrite subr_ge0 (a1_le1 ker).
have y0 : 0 <= 1 - x by rewrite subr_ge0.
by rewrite mulr_ge0 ?sqr_ge0 // (mulr_ge0 y0) // (mulr_ge0 b0) // mulr_ge0 // addr_ge0 ?addr_ge0 ?ler01 // mulr_ge0.
Qed.

Lemma frob_split n (C : 'M[R]_n) : (forall i, C i i = 1) -> frob C = n%:R + \sum_i \sum_(j | j != i) C i j ^+ 2.
Proof.
move=> diag; rewrite -[n in n%:R]card_ord -sumr_const -big_split; apply: eq_bigr => i _.
by rewrite (bigD1 i) //= diag expr1n.
Qed.

(* the bound of R2, squared entries of which are at least those that it bounds *)
Lemma frob_falls n (C : 'M[R]_n) (D : 'I_n -> 'I_n -> R) : correlations C ->
  (forall i j, D i j ^+ 2 <= (a 1%N * `|C i j| + (1 - a 1%N) * C i j ^+ 2) ^+ 2) ->
  strength * spread C <= frob C - (n%:R + \sum_i \sum_(j | j != i) D i j ^+ 2).
Proof.
move=> [diag le1] leD; rewrite frob_split // opprD addrACA subrr add0r -sumrB mulr_sumr; apply: ler_sum => i _.
rewrite mulr_sumr -sumrB; apply: ler_sum => j _; apply: le_trans (R9_entry (le1 i j)) _.
by rewrite ler_add2l ler_opp2.
Qed.

(* 1 + P / S lies below S / T if P <= S - T, and touches it where T = S only *)
Lemma tangent (P S T : R) : 0 <= P -> P <= S - T -> 0 < T -> 1 + P / S <= S / T ?= iff (T == S).
Proof.
move=> P0 PT T0; have S0 : 0 < S by rewrite (lt_le_trans T0) // -subr_ge0 (le_trans P0).
have le : 1 + P / S <= 1 + (S - T) / S by rewrite ler_add2l ler_pmul2r ?invr_gt0.
have gap : S / T - (1 + (S - T) / S) = (S - T) ^+ 2 / (S * T).
  rewrite -tangent_identity [RHS]mulrBl -[S * S / _]mulf_div -[_ * T / _]mulf_div !divff ?gt_eqF //.
  by rewrite mul1r mulr1; congr (_ - _); rewrite [RHS]mulrDl divff ?gt_eqF.
have up : 1 + (S - T) / S <= S / T by rewrite -subr_ge0 gap divr_ge0 ?sqr_ge0 // mulr_ge0 ?ltW.
split; first exact: le_trans up.
apply/eqP/eqP => [E|TS]; last first.
  have -> : P = 0 by apply/le_anti; rewrite P0 andbT; move: PT; rewrite TS subrr.
  by rewrite TS mul0r addr0 divff ?gt_eqF.
have: S / T - (1 + (S - T) / S) = 0 by apply/le_anti; rewrite !subr_le0 -{1}E le subr_ge0 up.
have ST : S * T != 0 by rewrite gt_eqF // mulr_gt0.
rewrite gap => /eqP; rewrite mulf_eq0 invr_eq0 (negPf ST) orbF sqrf_eq0 subr_eq0 => /eqP.
by move->.
Qed.

Lemma spread_ge0 n (C : 'M[R]_n) : correlations C -> 0 <= strength * spread C.
Proof.
move=> [_ le1]; rewrite mulr_ge0 ?strength_ge0 // sumr_ge0 // => i _; rewrite sumr_ge0 // => j _.
by rewrite mulr_ge0 ?sqr_ge0 // subr_ge0 -(expr1n _ 2) le_sqr normr1.
Qed.

Theorem R9_sum n (C : 'M[R]_n) : correlations C -> strength * spread C <= frob C - frob (map_mx K C).
Proof.
move=> cor; have [_ le1] := cor; rewrite (frob_split (diag_K cor)).
apply: (@frob_falls _ C (fun i j => map_mx K C i j)) => // i j; rewrite mxE le_sqr.
by apply: le_trans (R2_entry ker (le1 i j)) (ler_norm _).
Qed.

Lemma quotient_er2 n (C : 'M[R]_n) T : (0 < n)%N -> correlations C -> n%:R ^+ 2 / T / er2 C = frob C / T.
Proof.
move=> n0 [diag _]; have nn : n%:R ^+ 2 != 0 :> R by rewrite expf_neq0 // pnatr_eq0 -lt0n.
by rewrite er2_frob // invf_div [LHS]mulrC mulrA divfK.
Qed.

Theorem R9 n (C : 'M[R]_n) : (0 < n)%N -> correlations C ->
  1 + strength * spread C / frob C <= er2 (map_mx K C) / er2 C ?= iff (er2 (map_mx K C) == er2 C).
Proof.
move=> n0 cor; rewrite er2_stays // [er2 (map_mx K C)](er2_frob (diag_K cor)) quotient_er2 //.
by apply: tangent; [exact: spread_ge0 | exact: R9_sum | exact: frob_pos (diag_K cor)].
Qed.

(* the bound of R2 is never below, and above unless phi is linear or all entries have modulus 0 or 1 *)
Theorem R9_sharper n (C : 'M[R]_n) (sharp := n%:R ^+ 2 / (n%:R + Num.max (corner C (a 1%N) 2) (corner C (a 1%N) 3))) :
  (0 < n)%N -> correlations C ->
  1 + strength * spread C / frob C <= sharp / er2 C /\
  (a 1%N != 1 -> (exists i j, i != j /\ 0 < `|C i j| < 1) -> 1 + strength * spread C / frob C < sharp / er2 C).
Proof.
move=> n0 cor; have [_ le1] := cor; rewrite /sharp quotient_er2 //; set T := n%:R + _.
have le : strength * spread C <= frob C - T.
  have corner_le k : (2 <= k)%N -> strength * spread C <= frob C - (n%:R + corner C (a 1%N) k).
    move=> le2k; apply: (@frob_falls _ C (fun i j => a 1%N * C i j + (1 - a 1%N) * C i j ^+ k)) => // i j.
    rewrite le_sqr; apply: le_trans (ler_norm_add _ _) (le_trans _ (ler_norm _)).
    have b0 : 0 <= 1 - a 1%N by rewrite subr_ge0 (a1_le1 ker).
    rewrite !normrM (ger0_norm (a_ge0 1)) (ger0_norm b0) ler_add2l ler_wpmul2l // normrX -sqr_norm.
    by rewrite ler_wiexpn2l // normr_ge0.
  by rewrite /T; case: (leP (corner C (a 1%N) 2) (corner C (a 1%N) 3)) => _; apply: corner_le.
have T0 : 0 < T.
  rewrite ltr_spaddl ?ltr0n // le_maxr; apply/orP; left.
  by rewrite sumr_ge0 // => i _; rewrite sumr_ge0 // => j _; apply: sqr_ge0.
have [bound eq] := tangent (spread_ge0 cor) le T0; split=> // a1 [i [j [ij /andP[c0 c1]]]].
rewrite lt_neqAle bound andbT eq; apply/negP => /eqP TS; move: le; rewrite TS subrr leNgt => /negP; apply.
rewrite mulr_gt0 //; first by rewrite divr_gt0 // subr_gt0 lt_def eq_sym a1 (a1_le1 ker).
have pos k l : 0 <= C k l ^+ 2 * (1 - C k l ^+ 2) by rewrite mulr_ge0 ?sqr_ge0 // subr_ge0 -(expr1n _ 2) le_sqr normr1.
rewrite /spread (bigD1 i) //= (bigD1 j) 1?eq_sym //= -addrA ltr_spaddl //.
  by rewrite -sqr_norm mulr_gt0 ?subr_gt0 ?exprn_gt0 // expr_lt1.
by rewrite addr_ge0 ?sumr_ge0 // => *; rewrite sumr_ge0.
Qed.

(* ------------------------------------------------------------------ *)
(* R10: where the norm falls                                           *)
(* ------------------------------------------------------------------ *)
Theorem R10_repair n (C : 'M[R]_n) : correlations C -> a 1%N != 1 -> (frob (map_mx K C) < frob C) =
  [exists i, exists j, (i != j) && ((0 < `|C i j| < 1) || (C i j == -1) && (`|K (-1)| != 1))].
Proof.
move=> cor a1; have [diag le1] := cor; rewrite lt_neqAle frob_le // andbT -er2_stays //.
apply/idP/existsP => [/eqP|[i /existsP[j /andP[ij bad]]]].
  move=> ne; apply/existsP; move: ne; apply: contra_notT => none; apply/(R1_equality cor); right=> i j ij.
  move: none; rewrite negb_exists => /forallP/(_ i); rewrite negb_exists => /forallP/(_ j).
  rewrite ij /= negb_or negb_and normr_gt0 negbK -leNgt => /andP[inside minus].
  have [->|c0] := eqVneq (C i j) 0; first by constructor 1.
  rewrite (negPf c0) /= in inside; have: `|C i j| == `|1| by rewrite normr1 eq_le le1.
  rewrite eqr_norm2 => /orP[] /eqP cE; [by constructor 2 | constructor 3; split=> //].
  by apply/eqP; move: minus; rewrite cE eqxx /= negbK.
apply/eqP => /(R1_equality cor)[E|ok]; first by rewrite E eqxx in a1.
case: (ok i j ij) bad => [->|->|[-> ->]]; rewrite ?normr0 ?normr1 ?normrN1 ?ltxx ?andbF ?eqxx //=.
  by rewrite eq_sym oppr_eq0 oner_eq0.
by rewrite -subr_eq0 opprK -mulr2n pnatr_eq0.
Qed.

(* ------------------------------------------------------------------ *)
(* R13 (ii): few pairs have a correlation that is neither small nor large *)
(* ------------------------------------------------------------------ *)
Theorem R13_count n (C : 'M[R]_n) e t : (0 < n)%N -> correlations C -> 0 < t ->
  er2 (map_mx K C) <= (1 + e) * er2 C ->
  #|[pred p : 'I_n * 'I_n | (p.1 != p.2) && (t ^+ 2 <= C p.1 p.2 ^+ 2 <= 1 - t ^+ 2)]|%:R *
    (strength * (t ^+ 2 * (1 - t ^+ 2))) <= e * frob C.
Proof.
move=> n0 cor t0 small; have [diag le1] := cor; have S0 := frob_pos n0 diag.
have E0 : 0 < er2 C by rewrite er2_frob // divr_gt0 ?exprn_gt0 ?ltr0n.
have [bound _] := R9 n0 cor; have := le_trans bound (_ : _ <= 1 + e); rewrite ler_pdivr_mulr // => /(_ small).
rewrite ler_add2l ler_pdivr_mulr //; apply: le_trans.
rewrite mulrCA ler_wpmul2l ?strength_ge0 // /spread pair_big_dep /=.
rewrite mulr_natl -sumr_const [X in _ <= X](bigID [pred p | t ^+ 2 <= C p.1 p.2 ^+ 2 <= 1 - t ^+ 2]) /=.
rewrite -[X in X <= _]addr0 ler_add //; last first.
  rewrite sumr_ge0 // => p _; rewrite mulr_ge0 ?sqr_ge0 // subr_ge0 -(expr1n _ 2) le_sqr normr1; exact: le1.
rewrite (eq_bigl (fun p : 'I_n * 'I_n => (p.2 != p.1) && (t ^+ 2 <= C p.1 p.2 ^+ 2 <= 1 - t ^+ 2))) => [|p];
  last by rewrite inE eq_sym.
by apply: ler_sum => p /andP[_ /andP[lo hi]]; rewrite -subr_ge0 middle_identity mulr_ge0 ?subr_ge0 //.
Qed.
End Published.

(* R10 as submitted is false: the identity has entries below one, and keeps its norm, phi = He_2 / sqrt 2 *)
Theorem R10_counterexample (R : realFieldType) : exists (a : nat -> R) (K : R -> R) (C : 'M[R]_2),
  [/\ kernel a K, a 1%N != 1, correlations C & exists i j, [/\ i != j, `|C i j| < 1 & frob (map_mx K C) = frob C]].
Proof.
exists (two_masses 0 2%N), (two_kernel 0 2%N), 1%:M; split.
- by apply: R2_extremal => //; exact: ler01.
- by rewrite /two_masses eq_sym oner_eq0.
- by split=> [i|i j]; rewrite !mxE ?eqxx //; case: (i == j); rewrite ?normr1 ?normr0 ?ler01.
exists ord0, ord_max; split=> //; first by rewrite mxE normr0 ltr01.
apply: eq_bigr => i _; apply: eq_bigr => j _; rewrite !mxE /two_kernel mul0r add0r subr0 mul1r.
by case: (i == j); rewrite ?expr1n ?expr0n /= ?expr0n.
Qed.

(* ------------------------------------------------------------------ *)
(* R11: which of two kernels gains more                                *)
(* ------------------------------------------------------------------ *)
Section Order.
Variables (R : realFieldType) (K L : R -> R).
Hypothesis K1 : K 1 = 1.
Hypothesis L1 : L 1 = 1.
Definition above := forall r, `|r| <= 1 -> `|K r| <= `|L r|.
Definition two (r : R) : 'M[R]_2 := \matrix_(i, j) if i == j then 1 else r.

Theorem R11_sum : above -> forall n (C : 'M[R]_n), correlations C -> er2 (map_mx L C) <= er2 (map_mx K C).
Proof.
move=> le n C [diag le1]; rewrite (er2_diag (D := map_mx L C)) => [|i]; last by rewrite mxE diag.
apply: er2_ge => [i|]; first by rewrite mxE diag.
by apply: ler_sum => i _; apply: ler_sum => j _; rewrite !mxE le_sqr le.
Qed.

Lemma er2_two M r : M 1 = 1 -> er2 (map_mx M (two r)) = 2%:R ^+ 2 / (2%:R + M r ^+ 2 *+ 2) :> R.
Proof.
move=> M1; rewrite er2_diag => [|i]; last by rewrite !mxE eqxx.
rewrite !big_ord_recl !big_ord0 !addr0 !mxE /= !M1 expr1n; congr (_ / _).
by rewrite addrACA [M r ^+ 2 + 1]addrC addrACA -mulr2n.
Qed.

(* every matrix of two units with correlation r is one *)
Lemma two_correlations r : `|r| <= 1 -> correlations (two r) /\ (forall x, 0 <= form (two r) x).
Proof.
move=> r1; split; first by split=> [i|i j]; rewrite !mxE ?eqxx //; case: (i == j); rewrite ?normr1.
move=> x; rewrite /form !big_ord_recl !big_ord0 !addr0 !mxE /= !mul1r two_identity.
by rewrite addr_ge0 ?sqr_ge0 // mulr_ge0 ?sqr_ge0 // subr_ge0 -(expr1n _ 2) le_sqr normr1.
Qed.

Theorem R11_two : above <-> forall r, `|r| <= 1 -> er2 (map_mx L (two r)) <= er2 (map_mx K (two r)).
Proof.
split=> [le r r1|le r r1]; first by apply: R11_sum => //; case: (two_correlations r1).
have pos M : 0 < 2%:R + M r ^+ 2 *+ 2 :> R by rewrite ltr_spaddl ?ltr0n // mulrn_wge0 ?sqr_ge0.
have := le r r1; rewrite !er2_two // ler_pmul2l ?exprn_gt0 ?ltr0n // lef_pinv ?posrE //.
by rewrite ler_add2l ler_pmuln2r // le_sqr.
Qed.

(* the strengths kappa, max r^2 - K(r)^2, and gamma, which falls as K'(0) rises, follow *)
Theorem R11_kappa m : above -> (forall r, 0 <= r <= 1 -> r ^+ 2 - K r ^+ 2 <= m) -> forall r, 0 <= r <= 1 -> r ^+ 2 - L r ^+ 2 <= m.
Proof.
move=> le Km r /andP[r0 r1]; apply: le_trans (Km r _); last by rewrite r0.
by rewrite ler_add2l ler_opp2 le_sqr le // ger0_norm.
Qed.
Theorem R11_gamma a b : kernel a K -> kernel b L -> above -> a 1%N <= b 1%N.
Proof.
move=> kK kL le; apply/ler_addgt0Pr => e e0; pose r := Num.min 1 (e / 2%:R).
have r0 : 0 < r by rewrite lt_minr ltr01 divr_gt0 // ltr0n.
have r1 : `|r| <= 1 by rewrite ger0_norm ?(ltW r0) // le_minl lexx.
have re : r + r <= e by rewrite [e]splitr ler_add // le_minl lexx orbT.
have Lr := R2_entry kL r1; have := from_cubes kK r1; rewrite ler_distl => /andP[Kr _].
have a2 : 0 <= a 2%N by case: kK.
have b1 : 0 <= b 1%N by case: kL.
have a1 : 0 <= a 1%N by case: kK.
rewrite (ger0_norm (ltW r0)) in r1 Lr Kr; rewrite -(ler_pmul2r r0).
apply: le_trans (_ : b 1%N * r + (r + r) * r <= _); last by rewrite [X in _ <= X]mulrDl ler_add2l ler_pmul2r.
have up : a 1%N * r <= K r + r * r.
  apply: le_trans (_ : a 1%N * r + a 2%N * r ^+ 2 <= _); first by rewrite ler_addl mulr_ge0 ?sqr_ge0.
  rewrite -ler_subl_addr; apply: le_trans Kr; rewrite ler_add2l ler_opp2.
  rewrite -expr2 -[X in _ <= X]mul1r; apply: ler_pmul.
  - by rewrite subr_ge0 ler_subr_addl (a12_le1 kK).
  - by rewrite exprn_ge0 ?(ltW r0).
  - by rewrite -addrA -opprD ger_addl oppr_le0 addr_ge0.
  by rewrite ler_wiexpn2l // ltW.
apply: le_trans up _; rewrite [(r + r) * r]mulrDl addrA ler_add2r; apply: le_trans (ler_norm _) _.
apply: le_trans (le r _) (le_trans Lr _); first by rewrite ger0_norm ?(ltW r0).
by rewrite ler_add2l expr2 ler_pimull ?mulr_ge0 ?(ltW r0) // ger_addl oppr_le0.
Qed.
End Order.

(* neither strength implies the order: masses 1/4 and 3/4 on the degrees 1 and 3, and all mass on degree 2 *)
Theorem R11_counterexample : exists (a b : nat -> rat) (K L : rat -> rat),
  [/\ kernel a K, kernel b L, b 1%N < a 1%N,
      exists2 r, 0 <= r <= 1 & forall r', 0 <= r' <= 1 -> r' ^+ 2 - L r' ^+ 2 < r ^+ 2 - K r ^+ 2 &
      (exists2 r, `|r| <= 1 & `|L r| < `|K r|) /\ (exists2 r, `|r| <= 1 & `|K r| < `|L r|)].
Proof.
exists (two_masses (1%:Q / 4%:Q) 3%N), (two_masses 0 2%N), (two_kernel (1%:Q / 4%:Q) 3%N), (two_kernel 0 2%N).
split; [exact: R2_extremal | exact: R2_extremal | by vm_compute | |
        by split; [exists (1%:Q / 4%:Q) | exists (3%:Q / 4%:Q)]; vm_compute].
exists (3%:Q / 4%:Q) => [|r _]; first by vm_compute.
apply: le_lt_trans (_ : (1%:Q / 2%:Q) ^+ 2 < _); last by vm_compute.
rewrite /two_kernel mul0r add0r subr0 mul1r -exprM -subr_ge0.
have half : (1%:Q / 2%:Q) *+ 2 = 1 by apply/eqP; vm_compute.
have -> : (1%:Q / 2%:Q) ^+ 2 - (r ^+ 2 - r ^+ 4) = (r ^+ 2 - 1%:Q / 2%:Q) ^+ 2.
  by rewrite sqrrB -exprM -mulrnAr half mulr1 opprB addrC.
exact: sqr_ge0.
Qed.

(* R12: gamma = (1 - x) / (1 + x) falls strictly, is its own inverse, and tends to 1 as x = K'(0) tends to 0, and then only *)
Section Monotone.
Variable R : realFieldType.
Theorem R12_monotone (x y : R) : 0 <= x <= 1 -> 0 <= y ->
  [/\ (gamma x < gamma y) = (y < x), gamma (gamma x) = x & x <= 1 - gamma x <= x *+ 2].
Proof.
move=> /andP[x0 x1] y0; have pos (z : R) : 0 <= z -> 0 < 1 + z by move=> z0; rewrite ltr_paddr ?ltr01.
have gE z : 1 + z != 0 -> gamma z = 2%:R / (1 + z) - 1.
  move=> nz; rewrite /gamma -[X in _ - X](divff nz) -mulrBl; congr (_ / _).
  by rewrite (natrD _ 1 1) opprD addrACA subrr add0r.
have [xp yp] := (pos x x0, pos y y0); have [xn yn] : 1 + x != 0 /\ 1 + y != 0 by rewrite !gt_eqF.
have g1 : 1 + gamma x = 2%:R / (1 + x) by rewrite gE // addrC subrK.
split.
- by rewrite !gE // ltr_add2r ltr_pmul2l ?ltr0n // ltf_pinv ?posrE // ltr_add2l.
- rewrite [LHS]gE g1; last by rewrite mulf_neq0 ?invr_eq0 // pnatr_eq0.
  by rewrite invf_div mulrC divfK ?pnatr_eq0 // addrC addKr.
have -> : 1 - gamma x = x *+ 2 / (1 + x).
  rewrite gE // opprB addrA -[1 + 1]/(2%:R : R) -[X in X - _ = _](mulfK xn) -mulrBl; congr (_ / _).
  by rewrite mulrDr mulr1 addrAC subrr add0r mulr_natl.
rewrite ler_pdivl_mulr // ler_pdivr_mulr // mulr2n mulrDr mulr1 ler_add2l ler_pimulr //=.
by rewrite mulrDr mulr1 ler_addl mulr_ge0 ?addr_ge0.
Qed.
End Monotone.
